"""The crash suite of provisioning over Azure: the process dies at every position of its journal and around every call."""

from __future__ import annotations

import contextlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from clusterctl_providers.azure.provider import AzureProvider
from clusterctl_providers.base import PoolRequest, ProviderContext

from clusterctl.core.model import Offer
from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.world import REGION, SUBSCRIPTION
from tests.crash.stage import UID, Fuse, MiniHead, Sky
from tests.crash.story import LISTS, MEMORY, check_all_gone, check_no_double, live_through, run_story

PARTS = 4  # of the positions: each has its own time limit
SKIP = (*LISTS, "after commit")  # nothing happens between a commit and the position that comes after it
CHANGES = ("virtualMachines.createOrUpdate", "virtualMachines.delete")


class OneCpu(AzureProvider):
    """The story is of nodes with one CPU each."""

    def offers(self, pool: PoolRequest) -> list[Offer]:
        return super().offers(
            PoolRequest(pool.name, {"instances": ["Standard_B1s"], "resources": {"CPU": 1}}, pool.role)
        )


@dataclass
class AzureSky(Sky):
    cloud: AzureCloud | None = None

    def provider(self) -> AzureProvider:
        assert self.cloud
        settings = {
            "subscription": SUBSCRIPTION,
            "region": REGION,
            "endpoint_url": self.cloud.url,
            "calls_per_second": 10_000.0,
            "head_address": "127.0.0.1",  # no identity is made: test_identity interrupts that
        }
        return OneCpu(ProviderContext("demo", UID, str(self.directory / "state"), settings))

    def remains(self) -> list[str]:
        assert self.cloud
        return [*self.cloud.leftovers(), *self.cloud.world.violations]


class Skies:
    """A subscription as new."""

    def __enter__(self) -> AzureSky:
        self._stack = contextlib.ExitStack()
        cloud = self._stack.enter_context(AzureCloud())
        self._stack.enter_context(cloud.credentials())
        directory = self._stack.enter_context(tempfile.TemporaryDirectory(dir=MEMORY))
        self._sky = AzureSky(Path(directory), now=time.time(), cloud=cloud)
        return self._sky

    def __exit__(self, *error: object) -> None:
        self._sky.close()
        self._stack.close()


def positions() -> list[str]:
    fuse = Fuse(skip=SKIP)
    with Skies() as sky:
        head = MiniHead(sky, fuse)
        head.start()
        run_story(head, [])
        check_all_gone(sky, head)
        head.close()
    return fuse.passed


def live(sky: AzureSky) -> None:
    head = MiniHead(sky)
    head.start()
    run_story(head, [], lambda: check_no_double(sky))
    check_all_gone(sky, head)
    head.close()


@pytest.mark.parametrize("part", range(PARTS))
def test_a_crash_at_any_position_leaks_nothing_and_the_wanted_state_is_reached(part: int) -> None:
    names = positions()
    assert {"before commit", "before create", "after create", "after terminate"} <= set(names)
    phases: set[str] = set()
    for number in range(1 + part, len(names) + 1, PARTS):
        with Skies() as sky:
            phases.update(live_through(sky, [Fuse(number, skip=SKIP)]))
    assert phases == {"start", "up", "scale-up", "scale-down"}, "every phase was interrupted"


@pytest.mark.parametrize("effect", ["lost", "reset", "cut"])
def test_answers_that_the_line_loses_leak_nothing(effect: str) -> None:
    """Every other call that changes something is done (or not) and never answered."""
    with Skies() as sky:
        assert sky.cloud
        for action in CHANGES:
            sky.cloud.fault(action, effect, times=2)
        live(sky)


def test_operations_that_are_never_heard_of_leak_nothing() -> None:
    """A launch is accepted, and what becomes of it is not to be learned for a while."""
    with Skies() as sky:
        assert sky.cloud
        sky.cloud.fault("operations.status", "cut", times=9)
        live(sky)


def test_launches_that_come_to_nothing_after_they_were_accepted_leak_nothing() -> None:
    with Skies() as sky:
        assert sky.cloud
        for action in CHANGES[:1]:
            sky.cloud.fault(action, "operation", code="AllocationFailed", times=2)
        live(sky)


def test_lists_that_lag_behind_leak_nothing() -> None:
    with Skies() as sky:
        assert sky.cloud
        sky.cloud.world.visible_after = 0.3
        live(sky)
