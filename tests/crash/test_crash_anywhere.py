"""The process dies at every position of the journal and around every provider call; the next one finishes the story."""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from clusterctl.core.model import NodeState
from tests.crash.stage import NODES_AT_MOST, Crash, Fuse, MiniHead, Sky, run_story

SKIES: dict[str, list[dict[str, Any]]] = {
    "lists-are-true": [],
    "lists-lag": [{"kind": "stale_list", "seconds": 4}],
    "lists-break-off": [{"kind": "partial_list", "from": 1, "until": 12}],
    "sold-out-in-one-zone": [{"kind": "no_capacity", "offer": "*/za"}],
}

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # the crashes are simulated: no disk is needed
LISTS = ("before list", "after list")


def check_no_double(sky: Sky) -> None:
    """At every moment: no node twice, and never more than the pools allow."""
    living = Counter((i.node_id, i.generation) for i in sky.living())
    assert max(living.values(), default=0) <= 1, living
    assert sum(living.values()) <= NODES_AT_MOST, living


def check_owned(sky: Sky, head: MiniHead) -> None:
    """No instance without a record, and no record without an instance but those that are ending."""
    nodes = head.journal.nodes().values()
    living = {instance.id for instance in sky.living()}
    assert living <= {node.instance_id for node in nodes}
    assert {node.instance_id for node in nodes if node.state is not NodeState.TERMINATING} <= living


def settle(sky: Sky, head: MiniHead, jobs: int) -> None:
    """Long enough for whatever has no owner to be reaped."""
    for _ in range(15):
        head.tick(jobs)
        check_no_double(sky)


@contextlib.contextmanager
def new_sky(name: str) -> Iterator[Sky]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        sky = Sky(Path(directory), SKIES[name])
        yield sky
        sky.close()


@contextlib.contextmanager
def running(sky: Sky, fuse: Fuse | None = None, lost: tuple[int, ...] = ()) -> Any:
    head = MiniHead(sky, fuse, lost)
    try:
        yield head
    finally:
        head.close()


def live_through(sky: Sky, fuses: list[Fuse]) -> list[str]:
    """Starts a process per fuse, each of which dies, and one that does not; returns the phases in which they died."""
    done: list[str] = []
    died: list[str] = []
    for fuse in fuses:
        with running(sky, fuse) as head, contextlib.suppress(Crash):
            head.start()
            run_story(head, done, lambda: check_no_double(sky))
        died.append(done[-1] if done else "start")
        check_no_double(sky)
        sky.now += 3.0
    with running(sky) as head:
        head.start()
        if "down" not in done:
            jobs = 3 if done[-1:] == ["up"] else 0
            settle(sky, head, jobs)
            check_owned(sky, head)
            run_story(head, done, lambda: check_no_double(sky))
        assert sky.living() == [] and head.journal.nodes() == {}
    return died


def positions(name: str, skip: Sequence[str]) -> list[str]:
    """Names of all positions that an undisturbed run passes."""
    fuse = Fuse(skip=skip)
    with new_sky(name) as sky, running(sky, fuse) as head:
        head.start()
        run_story(head, [])
        assert sky.living() == []
    return fuse.passed


@pytest.mark.parametrize("name", sorted(SKIES))
def test_a_crash_at_any_position_leaks_nothing_and_the_wanted_state_is_reached(name: str) -> None:
    skip = () if name == "lists-are-true" else LISTS  # a list changes nothing: one sky with them is enough
    names = positions(name, skip)
    assert {"before commit", "after commit", "before create", "after create", "after terminate"} <= set(names)
    phases: set[str] = set()
    for number in range(1, len(names) + 1):
        with new_sky(name) as sky:
            phases.update(live_through(sky, [Fuse(number, skip=skip)]))
    assert phases == {"start", "up", "scale-up", "scale-down"}, "every phase was interrupted"


def test_crashes_during_the_recovery_from_a_crash_leak_nothing() -> None:
    total = len(positions("lists-lag", LISTS))
    for number in range(1, total + 1, 2):
        with new_sky("lists-lag") as sky:
            live_through(sky, [Fuse(n, skip=LISTS) for n in (number, 1 + number * 7 % 11, 1 + number * 5 % 7)])


def test_answers_lost_after_the_effect_leak_nothing() -> None:
    """Each call of a provider in turn is done and never answered, and the process lives on."""
    with new_sky("lists-are-true") as sky, running(sky) as head:
        head.start()
        run_story(head, [])
        calls = head.provider.calls
    for lost in range(1, calls + 1):
        with new_sky("lists-are-true") as sky, running(sky, lost=(lost, lost + 1)) as head:
            head.start()
            done: list[str] = []
            run_story(head, done, lambda sky=sky: check_no_double(sky))
            assert sky.living() == [] and head.journal.nodes() == {}


@pytest.mark.parametrize("kind", ["lost_call", "lost_answer"])
def test_calls_and_answers_that_the_cloud_loses_leak_nothing(kind: str, tmp_path: Path) -> None:
    """The cloud loses every create for a while, then works; then it loses every end for a while."""
    faults = [
        {"kind": kind, "call": "create", "until": 9},
        {"kind": kind, "call": "terminate", "times": 3},
    ]
    sky = Sky(tmp_path, faults)
    with running(sky) as head:
        head.start()
        run_story(head, [], lambda: check_no_double(sky))
        settled = head.journal.nodes()
    assert sky.living() == [] and settled == {}
    sky.close()
