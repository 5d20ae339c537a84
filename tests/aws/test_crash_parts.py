"""What a head on an instance needs beside it (role, profile, key, group, volume): the client dies after every call that
changes something, so that its answer is never seen, and the next try has one of each; `down` leaves none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.aws.provider import AwsProvider
from clusterctl_providers.base import HeadMachine, PoolRequest

from clusterctl.core.errors import ProviderError
from clusterctl.core.model import Instance, Offer
from tests.aws.stage import Stage, pool
from tests.aws.test_permissions import key_of
from tests.cloud.aws.cloud import AwsCloud
from tests.cloud.aws.identity import iam
from tests.crash.stage import Crash, Fuse
from tests.support.cluster import wait_until

HEAD = PoolRequest("head", {"instances": ["t3.large"], "market": ["on-demand"]}, "head")
MACHINE = HeadMachine(public=True)
READS = re.compile("describe_|get_|list_")


class Life:
    """A head's parts from the first call to the last one, by processes that may die: each has a provider of its own."""

    def __init__(self, directory: Path, cloud: AwsCloud) -> None:
        self.cloud, self.stage = cloud, Stage(directory, cloud, [pool(), HEAD])
        self.auth, self.number = key_of(directory), 0  # of this life: tokens are spent once
        self.offer: Offer = self.stage.provider.offers(HEAD)[0]

    def process(self, fuse: Fuse) -> AwsProvider:
        provider = self.stage.open(self.auth, MACHINE, worker_profile="auto")
        plain = provider._calls.call

        def call(service: str, operation: str, what: str, **parameters: Any) -> dict[str, Any]:
            if READS.match(operation):
                return plain(service, operation, what, **parameters)
            answer = plain(service, operation, what, **parameters)
            fuse.at(f"after {operation}")  # the position before the next call is this one
            return answer

        provider._calls.call = call  # type: ignore[method-assign]
        return provider

    def until_done(self, fuse: Fuse, what: Any) -> None:
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

    def make(self, provider: AwsProvider) -> bool:
        (head,) = provider.create([self.stage.request(f"head-{self.number}", self.offer, HEAD)])
        if not isinstance(head, Instance):
            return False
        disk = provider.head_disk() or provider.make_head_disk(head.zone, 1 << 30, f"the disk of {self.number}")
        wait_until(lambda: provider.attach_head_disk(disk, head.id), what="the disk attached")
        return True

    def remove(self, provider: AwsProvider) -> bool:
        provider.terminate([i.id for i in provider.list()[0].instances])
        wait_until(lambda: not provider.list()[0].instances, what="the end of the instances")
        return provider.sweep() == []

    def inventory(self) -> dict[str, int]:
        volumes = self.cloud.client().describe_volumes(Filters=[{"Name": "tag-key", "Values": ["clusterctl-disk"]}])
        return {
            "instances": len(self.cloud.instances("pending", "running")),
            "volumes": len(volumes["Volumes"]),
            "roles": len(iam().roles),
            "profiles": len(iam().instance_profiles),
            "groups": len([i for i in self.cloud.leftovers() if i.startswith("sg-")]),
        }


@pytest.fixture
def life(cloud: AwsCloud, tmp_path: Path) -> Iterator[Life]:
    cloud.world.volume_seconds = 0.02
    place = Life(tmp_path, cloud)
    yield place
    place.stage.close()


def test_a_client_that_dies_after_any_call_has_one_of_each_in_the_end_and_nothing_after_down(life: Life) -> None:
    whole = Fuse()
    life.until_done(whole, life.make)
    ours = life.inventory()
    assert set(ours.values()) == {1} or ours["roles"] == 2, ours
    making = len(whole.passed)
    life.until_done(whole, life.remove)
    assert life.cloud.leftovers() == []
    for number in range(1, making + 1):
        fuse, life.number = Fuse(number), number
        life.until_done(fuse, life.make)
        assert fuse.blown and life.inventory() == ours, whole.passed[number - 1]
        life.until_done(Fuse(number), life.remove)
        assert life.cloud.leftovers() == [], whole.passed[number - 1]
