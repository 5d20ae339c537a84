"""What a cluster without instances still has goes away with `down`, and with `gc`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterctl.core.errors import BadRequest
from clusterctl.provision.gc import Stray, collect
from tests.azure.parts import Parts
from tests.azure.stage import Stage, vms
from tests.cloud.azure.cloud import AzureCloud
from tests.support.cluster import wait_until


@pytest.fixture
def stage(cloud: AzureCloud, tmp_path: Path) -> Iterator[Stage]:
    place = Stage(tmp_path, cloud)
    yield place
    place.close()


def gc(stage: Stage) -> list[Stray]:
    """As whoever does not know the cluster collects what it has left."""
    opened = {("azure", ""): lambda cluster, uid: stage.open()}
    return collect(opened, lambda uid: False, stage.now, dry_run=False, patience=10)


def test_down_waits_for_the_last_instance_before_it_removes_the_rest(stage: Stage, cloud: AzureCloud) -> None:
    cloud.world.end_seconds = 0.5
    stage.want(3)
    assert len(cloud.leftovers()) > 3
    stage.provisioner.down()
    assert cloud.leftovers() == []


def test_gc_finds_a_cluster_of_which_only_its_resource_group_is_left(stage: Stage, cloud: AzureCloud) -> None:
    stage.want(1)
    for vm in vms(cloud):
        Parts(cloud).calls.run("DELETE", vm["id"], "ending")
    assert [(name, uid) for name, uid, _ in stage.provider.find_clusters()] == [("demo", stage.uid)]
    gc(stage)
    assert cloud.leftovers() == []


def test_what_another_cluster_has_stays(stage: Stage, cloud: AzureCloud, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Stage(tmp_path / "other", cloud)
    other.want(1)
    kept = set(cloud.leftovers())
    stage.want(1)
    stage.provisioner.down()
    assert set(cloud.leftovers()) == kept
    other.close()


def test_gc_leaves_a_cluster_whose_head_lost_its_machine_and_kept_its_queue(stage: Stage, cloud: AzureCloud) -> None:
    """To whoever does not know the cluster it looks as if nobody did: its owner's `up` brings it back."""
    stage.want(1)
    disk = stage.provider.make_head_disk("1", 1 << 30, "once")
    before = cloud.leftovers()
    (stray,) = gc(stage)
    assert disk.id in stray.spared and "`clusterctl up` where it was started" in stray.spared
    assert cloud.leftovers() == before
    path = stage.provider._network.group.path("Microsoft.Compute", "disks", disk.id)
    Parts(cloud).calls.run("DELETE", path, "deleting")
    (stray,) = gc(stage)
    assert stray.removed and not stray.error and cloud.leftovers() == []


@pytest.fixture
def corp(cloud: AzureCloud) -> str:
    """A resource group of the user's, with something of theirs in it."""
    Parts(cloud).make("Microsoft.Compute/proximityPlacementGroups/theirs", {})
    return "corp"


def left(cloud: AzureCloud) -> list[str]:
    return [path for path in cloud.leftovers() if path.startswith("resourceGroups/")]


def test_of_a_group_of_the_users_only_what_is_the_clusters_goes(cloud: AzureCloud, tmp_path: Path, corp: str) -> None:
    theirs = left(cloud)
    stage = Stage(tmp_path, cloud, resource_group=corp)
    stage.want(2)
    assert len(left(cloud)) > len(theirs) + 6
    stage.provisioner.down()
    assert left(cloud) == theirs
    stage.close()


def test_cards_and_disks_of_machines_that_were_deleted_halfway_are_swept_by_their_tags(
    cloud: AzureCloud, tmp_path: Path, corp: str
) -> None:
    theirs = left(cloud)
    stage = Stage(tmp_path, cloud, resource_group=corp)
    stage.want(2)
    for kind in ("Microsoft.Network/networkInterfaces", "Microsoft.Compute/disks"):
        for row in cloud.store.of_type(kind):
            row.pop("managedBy", None)
            row["properties"].pop("virtualMachine", None)
    for vm in vms(cloud):
        cloud.store.remove(vm["id"])
    assert [path for path in left(cloud) if "/networkInterfaces/" in path or "/disks/" in path]
    assert [(name, uid, count) for name, uid, count in stage.provider.find_clusters()] == [("demo", stage.uid, 0)]
    wait_until(lambda: stage.provider.sweep() == [], what="nothing that has to wait")
    assert left(cloud) == theirs
    stage.close()


def test_what_somebody_keeps_in_the_clusters_own_group_is_named_and_not_taken_along(
    stage: Stage, cloud: AzureCloud
) -> None:
    stage.want(1)
    group = stage.provider._network.group.name
    Parts(cloud).make("Microsoft.Compute/proximityPlacementGroups/theirs", {}, group)
    stage.provider.terminate([vm["name"] for vm in vms(cloud)])
    with pytest.raises(BadRequest, match="theirs"):
        stage.provider.sweep()
    assert cloud.exists(f"resourceGroups/{group}/providers/Microsoft.Compute/proximityPlacementGroups/theirs")


def test_down_says_for_which_instances_it_waits_while_they_take_their_time(stage: Stage, cloud: AzureCloud) -> None:
    cloud.world.clock = lambda: stage.now
    stage.want(2)
    cloud.world.end_seconds = 50.0
    told: list[str] = []
    stage.provisioner.down(told.append)
    waits = [line for line in told if line.startswith("waiting for azure to end cpu-1 (clusterctl-")]
    assert waits and all(", stopping) (" in line for line in waits), told
    assert cloud.leftovers() == []
