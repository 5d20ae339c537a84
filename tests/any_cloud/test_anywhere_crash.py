"""`up` dies while it leaves a place for the next one, after each of its steps: the next `up` comes to the same end, with nothing
left in that place, or `down` ends it, with nothing left anywhere."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.aws.calls import Calls as AwsCalls
from clusterctl_providers.gcp.calls import Calls as GcpCalls

from clusterctl.client import registry
from clusterctl.client.head import config
from clusterctl.client.registry import Registry
from clusterctl.client.up import cloud, cloud_launch, cloud_login, placing
from clusterctl.core.errors import ClusterctlError
from tests.any_cloud.anywhere import AWS, GOOGLE, LOGIN, Clouds, Home, clouds
from tests.crash.stage import Crash, Fuse

READS = re.compile("describe_|get_|list_|simulate_")
PARTS = 3  # of the positions: each has its own time limit


def brittle(monkeypatch: pytest.MonkeyPatch, fuse: Fuse) -> None:
    """A position after the first of each sort of call that changes something in a cloud, and of file that is written or removed
    here; nothing happens between that and the next one. `fuse` knows them by what was done."""
    seen: set[str] = set()

    def around(owner: Any, name: str, what: Callable[..., str]) -> None:
        plain = getattr(owner, name)

        def step(*args: Any, **kwargs: Any) -> Any:
            answer, done = plain(*args, **kwargs), what(*args)
            if done and done not in seen:
                seen.add(done)
                fuse.at(done)
            return answer

        monkeypatch.setattr(owner, name, step)

    around(AwsCalls, "call", lambda _, service, operation, *rest: "" if READS.match(operation) else operation)
    around(GcpCalls, "change", lambda _, method, path, *rest: f"{method} {path.rpartition('/')[2]}")
    for module in (registry, config, cloud, cloud_launch):
        around(module, "write_private", lambda path, text: f"write {path.name}")
    around(placing, "begin_down", lambda _: "begin_down")
    around(Registry, "forget", lambda *_: "forget")


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clouds]:
    monkeypatch.setattr(cloud_login, "FIRST_LOGIN_SECONDS", 0.2)
    with clouds() as both:
        both.sold_out(AWS, "cpu")
        yield both


def live(home: Home, fuse: Fuse) -> None:
    """One `up`, which dies where the fuse says, or comes as far as it can. In the next place it does not die any more."""

    def hear(line: str) -> None:
        home.said.append(line)
        if line.startswith(f"trying {GOOGLE}"):
            fuse.blow = 0

    with pytest.MonkeyPatch.context() as patch:
        brittle(patch, fuse)
        with contextlib.suppress(Crash), pytest.raises(ClusterctlError, match=LOGIN):
            home.up(tell=hear)


def positions(both: Clouds, directory: Path) -> int:
    """How many there are before the next place is tried."""
    home, fuse, count = Home(directory, both), Fuse(), list[int]()

    def hear(line: str) -> None:
        if line.startswith(f"trying {GOOGLE}"):
            count.append(len(fuse.passed))

    with pytest.MonkeyPatch.context() as patch:
        brittle(patch, fuse)
        with pytest.raises(ClusterctlError, match=LOGIN):
            home.up(tell=hear)
    home.down()
    return count[0]


@pytest.mark.parametrize("part", range(PARTS))
def test_an_up_that_dies_while_it_passes_a_place_over_leaves_nothing_there(
    both: Clouds, tmp_path: Path, part: int
) -> None:
    count = positions(both, tmp_path / "counted")
    assert count > 15
    for number in range(1 + part, count + 1, PARTS):
        home, fuse = Home(tmp_path / str(number), both), Fuse(number)
        live(home, fuse)
        assert fuse.blown, number
        if number % 2:
            live(home, Fuse())
            position = fuse.passed[number - 1]
            assert both.left(AWS) == [], position
            assert both.machines(GOOGLE) == ["e2-medium", "e2-medium", "e2-standard-2"], position
            assert home.cluster.place == GOOGLE, position
        if home.registry.names():
            home.down()
        assert both.left(AWS) == both.left(GOOGLE) == [], fuse.passed[number - 1]
