"""The resource group of a cluster: its own, which goes with all that is in it, or the user's, which stays."""

from __future__ import annotations

import pytest

from clusterctl.core.errors import BadRequest, NotYet
from tests.azure.parts import Parts
from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.world import REGION


@pytest.fixture
def parts(cloud: AzureCloud) -> Parts:
    return Parts(cloud)


def test_a_cluster_makes_a_group_of_its_own_once_and_removes_it_with_all_that_it_holds(parts: Parts) -> None:
    group = parts.network(tags={"team": "x"}).group
    assert group.is_ours and group.name == f"clusterctl-demo-{parts.uid[:8]}"
    group.ensure()
    parts.network().group.ensure()
    assert parts.changes() == ["resourceGroups.createOrUpdate"]
    found = parts.calls.get(group.path(), "looking")
    assert found["tags"] == {"team": "x", "clusterctl-cluster": "demo", "clusterctl-uid": parts.uid}
    assert group.clusters() == [("demo", parts.uid)]
    assert parts.network(region="westeurope").group.clusters() == [], "those of another region are none of ours"
    assert group.remove() == [f"the resource group {group.name} is being removed"]
    assert group.remove() == [] and parts.cloud.leftovers() == [] and group.clusters() == []


def test_a_group_of_the_users_has_to_be_there_and_is_never_made_changed_or_removed(parts: Parts) -> None:
    group = parts.network(resource_group="corp").group
    with pytest.raises(
        BadRequest, match=r"has no resource group 'corp': make it \(`az group create --name corp --location"
    ):
        group.ensure()
    parts.calls.ask("PUT", parts.calls.path(group="corp"), "making", {"location": "westeurope"})
    since = len(parts.cloud.world.calls)
    group.ensure()
    assert not group.is_ours and group.remove() == [] and parts.changes(since) == []


def test_a_group_that_is_being_deleted_is_refused_by_name_before_anything_is_made(parts: Parts) -> None:
    parts.calls.ask("PUT", parts.calls.path(group="corp"), "making", {"location": REGION})
    parts.cloud.world.operation_seconds = 3600.0
    parts.calls.change("DELETE", parts.calls.path(group="corp"), "deleting")
    with pytest.raises(
        BadRequest, match="the resource group corp is being deleted, with all that is in it: name another"
    ):
        parts.network(resource_group="corp").card()
    assert parts.cloud.leftovers() == ["resourceGroups/corp"]


def test_a_clusters_own_group_that_is_still_being_deleted_is_waited_for(parts: Parts) -> None:
    group = parts.network().group
    group.ensure()
    parts.cloud.world.operation_seconds = 3600.0
    assert group.remove()
    with pytest.raises(NotYet, match="is being deleted"):
        parts.network().group.ensure()
    assert group.clusters() == [], "it is nobody's to remove any more"


def test_a_group_of_our_name_that_is_somebody_elses_is_left_alone(parts: Parts) -> None:
    group = parts.network().group
    parts.calls.ask("PUT", group.path(), "making", {"location": REGION, "tags": {"clusterctl-uid": "another"}})
    for act in (group.ensure, group.remove):
        with pytest.raises(BadRequest, match="does not carry the uid of cluster demo"):
            act()
    assert parts.cloud.leftovers() == [f"resourceGroups/{group.name}"]


def test_what_somebody_else_keeps_in_a_clusters_group_is_named_and_not_taken_along(parts: Parts) -> None:
    network = parts.network(["192.0.2.7"])
    network.card()
    parts.make("Microsoft.Network/publicIPAddresses/shop", {
        "sku": {"name": "Standard"}, "properties": {"publicIPAllocationMethod": "Static"}}, network.group.name)  # fmt: skip
    with pytest.raises(
        BadRequest, match=r"holds what clusterctl did not make \(Microsoft.Network/publicIPAddresses/shop\)"
    ):
        network.remove_group()
    theirs = f"{network.group.path()}/providers/Microsoft.Network/publicIPAddresses/shop"
    parts.calls.run("DELETE", theirs, "moving it elsewhere")
    network.remove_group()
    assert parts.network().remove_group() == [] and parts.cloud.leftovers() == []


def test_a_lock_on_the_group_is_named_and_the_group_stays_until_it_is_taken_off(parts: Parts) -> None:
    group = parts.network().group
    group.ensure()
    lock = f"{group.path()}/providers/Microsoft.Authorization/locks/keep"
    level = {"level": "CanNotDelete"}
    locked = {"id": lock, "name": "keep", "type": "Microsoft.Authorization/locks", "properties": level}
    parts.cloud.store.put(locked)
    with pytest.raises(BadRequest, match=r"removing the resource group .*: a lock on .*az lock delete"):
        group.remove()
    parts.cloud.store.remove(lock)
    assert group.remove() and group.remove() == []
