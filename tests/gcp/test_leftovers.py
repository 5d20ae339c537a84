"""What a cluster without instances still has goes away with `down`, and with `gc`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clusterctl.provision.gc import Stray, collect
from tests.cloud.gcp.cloud import GcpCloud
from tests.gcp.parts import Parts
from tests.gcp.stage import Stage

ZONE = "us-central1-a"


@pytest.fixture
def stage(cloud: GcpCloud, tmp_path: Path) -> Iterator[Stage]:
    place = Stage(tmp_path, cloud)
    yield place
    place.close()


def gc(stage: Stage) -> list[Stray]:
    """As whoever does not know the cluster collects what it has left."""
    opened = {("gcp", ""): lambda cluster, uid: stage.open()}
    return collect(opened, lambda uid: False, stage.now, dry_run=False, patience=10)


def test_down_waits_for_the_last_instance_before_it_removes_the_rest(stage: Stage, cloud: GcpCloud) -> None:
    cloud.world.end_seconds = 0.5
    stage.want(3)
    assert len(cloud.leftovers()) > 3
    stage.provisioner.down()
    assert cloud.leftovers() == []


def test_gc_finds_a_cluster_of_which_only_a_firewall_rule_is_left(stage: Stage, cloud: GcpCloud) -> None:
    stage.want(1)
    parts = Parts(cloud)
    for instance in cloud.instances():
        parts.calls.run("DELETE", f"zones/{instance.zone}/instances/{instance.name}", "ending")
    assert [(name, uid) for name, uid, _ in stage.provider.find_clusters()] == [("demo", stage.uid)]
    gc(stage)
    assert cloud.leftovers() == []


def test_what_another_cluster_has_stays(stage: Stage, cloud: GcpCloud, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Stage(tmp_path / "other", cloud)
    other.want(1)
    kept = set(cloud.leftovers())
    stage.want(1)
    stage.provisioner.down()
    assert set(cloud.leftovers()) == kept
    other.close()


def test_gc_leaves_a_cluster_whose_head_lost_its_machine_and_kept_its_queue(stage: Stage, cloud: GcpCloud) -> None:
    """To whoever does not know the cluster it looks as if nobody did: its owner's `up` brings it back."""
    stage.want(1)
    disk = stage.provider.make_head_disk(ZONE, 1 << 30, "once")
    before = cloud.leftovers()
    (stray,) = gc(stage)
    assert disk.id in stray.spared and "`clusterctl up` where it was started" in stray.spared
    assert cloud.leftovers() == before
    Parts(cloud).calls.run("DELETE", f"zones/{ZONE}/disks/{disk.id.partition('/')[2]}", "deleting")
    (stray,) = gc(stage)
    assert stray.removed and not stray.error and cloud.leftovers() == []


@pytest.mark.parametrize("kind", ["disk", "address", "policy"])
def test_gc_finds_a_cluster_of_which_only_one_thing_is_left(stage: Stage, cloud: GcpCloud, kind: str) -> None:
    parts = Parts(cloud)
    parts.uid = stage.uid
    network = parts.network()
    made: dict[str, Callable[[], object]] = {
        "disk": lambda: parts.calls.run(
            "POST", f"zones/{ZONE}/disks", "making", {"name": "d", "sizeGb": "10", "labels": network.labels()}
        ),
        "address": lambda: parts.calls.run(
            "POST", "regions/us-central1/addresses", "making",
            {"name": "a", "addressType": "INTERNAL", "subnetwork": network.subnet().url, "labels": network.labels()},
        ),
        "policy": lambda: network.placement_policy("train", ZONE),
    }  # fmt: skip
    made[kind]()
    assert [(name, uid) for name, uid, _ in stage.provider.find_clusters()] == [("demo", stage.uid)]
    gc(stage)
    assert cloud.leftovers() == []


def test_down_says_for_which_instances_it_waits_while_they_take_their_time(stage: Stage, cloud: GcpCloud) -> None:
    cloud.world.clock = lambda: stage.now
    stage.want(2)
    cloud.world.end_seconds = 50.0
    told: list[str] = []
    stage.provisioner.down(told.append)
    waits = [line for line in told if line.startswith("waiting for gcp to end cpu-1 (us-central1-")]
    assert waits and all(", stopping) (" in line for line in waits), told
    assert cloud.leftovers() == []
