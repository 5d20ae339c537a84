"""What a head on an instance needs beside it (accounts, firewall rules, address, disk): the client dies after every call that
changes something, before it knows what came of it, and the next try has one of each; `down` leaves none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.base import HeadMachine, PoolRequest
from clusterctl_providers.gcp.provider import GcpProvider

from clusterctl.core.errors import ProviderError
from clusterctl.core.model import Instance, Offer
from tests.cloud.gcp.cloud import GcpCloud
from tests.crash.stage import Crash, Fuse
from tests.gcp.stage import Stage, pool
from tests.gcp.test_network import make_key
from tests.support.cluster import wait_until

HEAD = PoolRequest("head", {"instances": ["e2-standard-2"], "market": ["on-demand"]}, "head")
MACHINE = HeadMachine(public=True, ssh_from=("192.0.2.7", "2001:db8::7"))
ASKS = (":getIamPolicy", ":testIamPermissions", "/testIamPermissions")  # POST, and change nothing


class Life:
    """A head's parts from the first call to the last one, by processes that may die: each has a provider of its own."""

    def __init__(self, directory: Path, cloud: GcpCloud) -> None:
        self.cloud, self.stage = cloud, Stage(directory, cloud, [pool(), HEAD])
        self.auth, self.number = {"key": str(make_key(directory / "key", "-t", "ed25519"))}, 0
        self.offer: Offer = self.stage.provider.offers(HEAD)[0]

    def process(self, fuse: Fuse) -> GcpProvider:
        provider = self.stage.open(self.auth, MACHINE, worker_service_account="auto")
        plain = provider._calls.change

        def change(method: str, path: str, what: str, *given: Any, **more: Any) -> dict[str, Any]:
            answer = plain(method, path, what, *given, **more)
            if method != "GET" and not path.endswith(ASKS):
                fuse.at(f"after {what}")  # the position before the next call is this one
            return answer

        provider._calls.change = change  # type: ignore[method-assign]
        return provider

    def until_done(self, fuse: Fuse, what: Callable[[GcpProvider], bool]) -> None:
        """Processes one after the other, until one comes to the end."""
        for _ in range(6):
            provider = self.process(fuse)
            try:
                if what(provider):
                    return
            except (Crash, ProviderError):
                fuse = Fuse()
            finally:
                provider.close()
        raise AssertionError("no process came to the end")

    def make(self, provider: GcpProvider) -> bool:
        (head,) = provider.create([self.stage.request(f"head-{self.number}", self.offer, HEAD)])
        if not isinstance(head, Instance):
            return False
        provider.renew_access()
        disk = provider.head_disk() or provider.make_head_disk(head.zone, 1 << 30, f"the disk of {self.number}")
        wait_until(lambda: provider.attach_head_disk(disk, head.id), what="the disk attached")
        return True

    def remove(self, provider: GcpProvider) -> bool:
        provider.terminate([i.id for i in provider.list()[0].instances])
        wait_until(lambda: not provider.list()[0].instances, what="the end of the instances")
        return provider.sweep() == []

    def inventory(self) -> dict[str, int]:
        """How many there are of each kind: {"instances": 1, "firewalls": 3 ...}."""
        return dict(Counter(path.split("/")[-2] for path in self.cloud.leftovers()))


@pytest.fixture
def life(cloud: GcpCloud, tmp_path: Path) -> Iterator[Life]:
    place = Life(tmp_path, cloud)
    yield place
    place.stage.close()


def test_a_client_that_dies_after_any_call_has_one_of_each_in_the_end_and_nothing_after_down(life: Life) -> None:
    whole = Fuse()
    life.until_done(whole, life.make)
    ours = life.inventory()
    assert (ours["instances"], ours["firewalls"], ours["addresses"], ours["disks"]) == (1, 4, 1, 2), ours
    making = len(whole.passed)
    life.until_done(whole, life.remove)
    assert life.cloud.leftovers() == []
    for number in range(1, making + 1):
        fuse, life.number = Fuse(number), number
        life.cloud.rights.roles.clear()  # which are the project's, and stay: each life begins without
        life.until_done(fuse, life.make)
        assert fuse.blown and life.inventory() == ours, whole.passed[number - 1]
        life.until_done(Fuse(number), life.remove)
        assert life.cloud.leftovers() == [], whole.passed[number - 1]
