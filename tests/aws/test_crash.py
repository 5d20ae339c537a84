"""The crash suite of provisioning over AWS: the process dies at every position of its journal and around every call."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from clusterctl_providers.aws.provider import AwsProvider
from clusterctl_providers.base import PoolRequest, ProviderContext

from clusterctl.core.model import Offer
from tests.cloud.aws.cloud import REGION, AwsCloud, credentials
from tests.crash.stage import UID, Fuse, MiniHead, Sky
from tests.crash.story import LISTS, MEMORY, check_all_gone, check_no_double, live_through, run_story

PARTS = 4  # of the positions: each has its own time limit
SKIP = (*LISTS, "after commit")  # nothing happens between a commit and the position that comes after it


class OneCpu(AwsProvider):
    """The story is of nodes with one CPU each."""

    def offers(self, pool: PoolRequest) -> list[Offer]:
        return super().offers(PoolRequest(pool.name, {"instances": ["t3.micro"], "resources": {"CPU": 1}}, pool.role))


@dataclass
class AwsSky(Sky):
    aws: AwsCloud | None = None

    def provider(self) -> AwsProvider:
        assert self.aws
        settings = {
            "region": REGION,
            "endpoint_url": self.aws.url,
            "calls_per_second": 10_000.0,
            "head_address": "127.0.0.1",  # no role is made: test_identity interrupts that
        }
        return OneCpu(ProviderContext("demo", UID, str(self.directory / "state"), settings))

    def remains(self) -> list[str]:
        assert self.aws
        return [str(thing) for thing in self.aws.leftovers()] + [str(v) for v in self.aws.world.violations]


@pytest.fixture(scope="module")
def aws() -> Iterator[AwsCloud]:
    with credentials(), AwsCloud() as cloud:
        yield cloud


class Skies:
    def __init__(self, aws: AwsCloud) -> None:
        self.aws = aws

    def __enter__(self) -> AwsSky:
        self.aws.reset()
        self._directory = tempfile.TemporaryDirectory(dir=MEMORY)
        self._sky = AwsSky(Path(self._directory.name), now=time.time(), aws=self.aws)
        return self._sky

    def __exit__(self, *error: object) -> None:
        self._sky.close()
        self._directory.cleanup()


def positions(aws: AwsCloud) -> list[str]:
    fuse = Fuse(skip=SKIP)
    with Skies(aws) as sky:
        head = MiniHead(sky, fuse)
        head.start()
        run_story(head, [])
        check_all_gone(sky, head)
        head.close()
    return fuse.passed


@pytest.mark.parametrize("part", range(PARTS))
def test_a_crash_at_any_position_leaks_nothing_and_the_wanted_state_is_reached(aws: AwsCloud, part: int) -> None:
    names = positions(aws)
    assert {"before commit", "before create", "after create", "after terminate"} <= set(names)
    phases: set[str] = set()
    for number in range(1 + part, len(names) + 1, PARTS):
        with Skies(aws) as sky:
            phases.update(live_through(sky, [Fuse(number, skip=SKIP)]))
    assert phases == {"start", "up", "scale-up", "scale-down"}, "every phase was interrupted"


@pytest.mark.parametrize("effect", ["lost", "reset", "cut"])
def test_answers_that_the_line_loses_leak_nothing(aws: AwsCloud, effect: str) -> None:
    """Every other call that changes something is done (or not) and never answered."""
    with Skies(aws) as sky:
        for action in ("RunInstances", "TerminateInstances"):
            aws.fault(action, effect, times=2)
        head = MiniHead(sky)
        head.start()
        run_story(head, [], lambda: check_no_double(sky))
        check_all_gone(sky, head)
        head.close()


def test_lists_that_lag_behind_leak_nothing(aws: AwsCloud) -> None:
    with Skies(aws) as sky:
        aws.world.visible_after = 0.3
        head = MiniHead(sky)
        head.start()
        run_story(head, [], lambda: check_no_double(sky))
        check_all_gone(sky, head)
        head.close()
