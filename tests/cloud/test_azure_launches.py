"""Virtual machines of the pretended Azure: what is refused, what fails later, and what is made with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.mgmt.resource.resources import ResourceManagementClient
from azure.mgmt.resourcegraph import ResourceGraphClient

from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.requests import GROUP, SPOT, SUBNET, Azure, card, code, vm
from tests.cloud.azure.world import SUBSCRIPTION, Failure


@pytest.fixture
def cloud() -> Iterator[AzureCloud]:
    with AzureCloud() as cloud:
        yield cloud


@pytest.fixture
def azure(cloud: AzureCloud) -> Azure:
    return Azure(cloud)


def kinds(cloud: AzureCloud) -> list[str]:
    """Types of what is left but the group and its network."""
    parts = [id_.rpartition("/providers/")[2].split("/") for id_ in cloud.leftovers() if "/providers/" in id_]
    return sorted(p[1] for p in parts if p[1] != "virtualNetworks")


# ---------------------------------------------------------------- what is made


def test_a_machine_makes_its_card_its_disk_and_its_public_address_and_takes_them_along(
    cloud: AzureCloud, azure: Azure
) -> None:
    body = vm("n1", tags={"a": "b"}, zones=["1"], papers=b"#!/bin/sh\ntrue\n")
    body["properties"]["networkProfile"]["networkInterfaceConfigurations"] = [
        card("n1", public=True) | {"tags": {"c": "d"}}
    ]
    made = azure.compute.virtual_machines.begin_create_or_update(GROUP, "n1", body).result()
    assert (made.provisioning_state, made.zones, made.tags) == ("Succeeded", ["1"], {"a": "b"})
    assert made.os_profile.custom_data is None  # it is for the machine alone
    assert made.storage_profile.image_reference.exact_version.startswith("24.04")
    interface = azure.network.network_interfaces.list(GROUP).next()
    assert interface.id == made.network_profile.network_interfaces[0].id and interface.tags == {"c": "d"}
    assert interface.virtual_machine.id == made.id
    assert interface.ip_configurations[0].private_ip_address == "10.224.0.4"
    public = azure.network.public_ip_addresses.list(GROUP).next()
    assert interface.ip_configurations[0].public_ip_address.id == public.id and public.ip_address.startswith("20.")
    disk = azure.compute.disks.get(GROUP, "n1")
    assert (disk.disk_size_gb, disk.managed_by, disk.zones, disk.disk_state) == (30, made.id, ["1"], "Attached")
    assert azure.codes() == ["ProvisioningState/succeeded", "PowerState/running"]
    assert cloud.machine("n1").user_data == b"#!/bin/sh\ntrue\n"
    azure.delete()
    assert kinds(cloud) == []


def test_what_is_to_be_detached_outlives_its_machine(cloud: AzureCloud, azure: Azure) -> None:
    body = vm("n1")
    del body["properties"]["storageProfile"]["osDisk"]["deleteOption"]
    body["properties"]["networkProfile"]["networkInterfaceConfigurations"][0]["properties"]["deleteOption"] = "Detach"
    azure.compute.virtual_machines.begin_create_or_update(GROUP, "n1", body).result()
    azure.delete()
    assert kinds(cloud) == ["disks", "networkInterfaces"]
    assert azure.compute.disks.get(GROUP, "n1").disk_state == "Unattached"


def test_a_machine_is_made_once_by_its_name(cloud: AzureCloud, azure: Azure) -> None:
    from azure.core import MatchConditions

    azure.make()
    with pytest.raises(HttpResponseError) as refused:
        azure.compute.virtual_machines.begin_create_or_update(
            GROUP, "N1", vm("n1"), etag="*", match_condition=MatchConditions.IfMissing
        )
    assert refused.value.status_code == 412 and code(refused) == "PreconditionFailed"
    assert len(cloud.machines()) == 1


def test_machines_are_listed_fifty_at_a_time_and_without_their_power(cloud: AzureCloud, azure: Azure) -> None:
    for poller in [azure.begin(f"n{number}") for number in range(51)]:
        poller.result()
    rows = list(azure.compute.virtual_machines.list(GROUP))
    assert len(rows) == 51 and cloud.world.operations().count("virtualMachines.list") == 2
    assert all(row.instance_view is None for row in rows)
    with pytest.raises(HttpResponseError):
        list(azure.compute.virtual_machines.list(GROUP, expand="instanceView"))
    status = list(azure.compute.virtual_machines.list_all(status_only="true"))
    assert {s.code for row in status for s in row.instance_view.statuses[1:]} == {"PowerState/running"}


def test_a_group_takes_its_machines_along(cloud: AzureCloud, azure: Azure) -> None:
    azure.make()
    cloud.world.end_seconds = 0.3
    seen: list[str] = []
    cloud.world.listeners.append(lambda power, machine: seen.append(power))
    azure.groups.begin_delete(GROUP).result()
    assert cloud.leftovers() == [] and seen == ["deleting"]


# ---------------------------------------------------------------- what is refused at once


def refused(azure: Azure, body: dict[str, Any]) -> str:
    with pytest.raises(HttpResponseError) as error:
        azure.compute.virtual_machines.begin_create_or_update(GROUP, "n1", body)
    assert kinds(azure.cloud) == []  # nothing was made
    return code(error)


def changed(path: str, value: Any) -> dict[str, Any]:
    body: Any = vm("n1")
    inner = body
    *parts, last = path.split(".")
    for part in parts:
        inner = inner[int(part)] if part.isdigit() else inner[part]
    inner[last] = value
    return body


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        ("location", "atlantis", "LocationNotAvailableForResourceType"),
        ("zones", ["4"], "InvalidAvailabilityZone"),
        ("properties.hardwareProfile.vmSize", "Standard_X1", "InvalidParameter"),
        (
            "properties.hardwareProfile.vmSize",
            "Standard_D4ps_v5",
            "BadRequest",
        ),  # of another architecture than the image
        ("properties.osProfile.adminUsername", "root", "InvalidParameter"),
        ("properties.osProfile.computerName", "n_1", "InvalidParameter"),
        ("properties.osProfile.customData", "!", "InvalidParameter"),
        ("properties.osProfile.customData", "QUFB" * 21846, "InvalidParameter"),
        (
            "properties.osProfile.linuxConfiguration.ssh.publicKeys.0.path",
            "/root/.ssh/authorized_keys",
            "InvalidParameter",
        ),
        ("properties.osProfile.linuxConfiguration.ssh.publicKeys.0.keyData", "ssh-dss AAAA", "InvalidParameter"),
        ("properties.osProfile.linuxConfiguration.ssh", {"publicKeys": []}, "InvalidParameter"),
        ("properties.storageProfile.imageReference.sku", "none", "PlatformImageNotFound"),
        ("properties.storageProfile.osDisk.diskSizeGB", 10, "OperationNotAllowed"),
        ("properties.networkProfile.networkInterfaceConfigurations", [], "InvalidParameter"),
        ("properties.evictionPolicy", "Delete", "OperationNotAllowed"),
        ("properties.securityProfile", {"encryptionAtHost": True}, "InvalidParameter"),
        ("properties.proximityPlacementGroup", {"id": SUBNET}, "NotFound"),
        ("properties.capacityReservation", {"capacityReservationGroup": {"id": SUBNET + "x"}}, "NotFound"),
        (
            "identity",
            {"type": "UserAssigned", "userAssignedIdentities": {SUBNET + "x": {}}},
            "FailedIdentityOperation",
        ),
    ],
)
def test_a_body_that_makes_no_sense_is_refused_in_azures_words(azure: Azure, path: str, value: Any, word: str) -> None:
    assert refused(azure, changed(path, value)) == word


def test_a_region_without_zones_takes_none(azure: Azure) -> None:
    assert refused(azure, vm("n1", zones=["1"], location="northcentralus")) == "LocationDoesNotSupportAvailabilityZones"


def test_quotas_are_of_all_machines_of_their_family_and_of_spot_ones(cloud: AzureCloud, azure: Azure) -> None:
    cloud.world.quotas["standardDSv5Family"] = 4
    azure.make("n0")
    with pytest.raises(ResourceExistsError, match="exceeding approved standardDSv5Family Cores quota") as error:
        azure.begin("n1")
    assert code(error) == "OperationNotAllowed" and "Current Usage: 4, Additional Required: 4" in str(error.value)
    cloud.world.quotas = {"cores": 4}
    with pytest.raises(ResourceExistsError, match="exceeding approved Total Regional Cores quota"):
        azure.begin("n1", "Standard_E4s_v5")
    cloud.world.quotas["lowPriorityCores"] = 4
    azure.make("n2", **SPOT)
    with pytest.raises(ResourceExistsError, match="exceeding approved LowPriorityCores quota"):
        azure.begin("n3", **SPOT)
    rows = {u.name.value: (u.current_value, u.limit) for u in azure.compute.usage.list("eastus")}
    assert rows["cores"] == (4, 4) and rows["lowPriorityCores"] == (4, 4) and rows["standardDSv5Family"][0] == 4


def test_a_size_that_the_subscription_may_not_have_is_in_the_list_of_sizes_with_the_reason(
    cloud: AzureCloud, azure: Azure
) -> None:
    cloud.world.restricted = {"Standard_D4s_v5/1", "Standard_D8s_v5"}
    cloud.world.sells = lambda name, zone: name != "Standard_D4s_v5" or zone != "3"
    skus = {
        s.name: s
        for s in azure.compute.resource_skus.list(filter="location eq 'eastus'")
        if s.resource_type == "virtualMachines"
    }
    found = skus["Standard_D4s_v5"]
    assert found.location_info[0].zones == ["1", "2"] and found.family == "standardDSv5Family"
    assert [(r.type, r.restriction_info.zones, r.reason_code) for r in found.restrictions] == [
        ("Zone", ["1"], "NotAvailableForSubscription")
    ]
    assert [r.type for r in skus["Standard_D8s_v5"].restrictions] == ["Location"]
    told = {c.name: c.value for c in found.capabilities}
    assert (told["vCPUs"], told["MemoryGB"], told["LowPriorityCapable"]) == ("4", "16", "True")
    for zone in ("1", "3"):
        assert refused(azure, vm("n1", zones=[zone])) == "SkuNotAvailable"
    azure.make("n1", zones=["2"])


def test_spot_has_a_price_that_one_is_ready_to_pay(cloud: AzureCloud, azure: Azure) -> None:
    cloud.world.spot_prices["Standard_D4s_v5"] = 0.05
    with pytest.raises(ResourceExistsError, match=r"is lower than the current spot price '0\.05 USD'"):
        azure.begin(**{**SPOT, "billingProfile": {"maxPrice": 0.04}})
    azure.make(**{**SPOT, "billingProfile": {"maxPrice": 0.06}})


def test_what_a_body_names_needs_the_callers_right_to_it(cloud: AzureCloud, azure: Azure) -> None:
    for action in (
        "Microsoft.Network/virtualNetworks/subnets/join/action",
        "Microsoft.Network/networkInterfaces/write",
        "Microsoft.Compute/disks/write",
    ):
        cloud.world.denied = {action}
        with pytest.raises(HttpResponseError, match=action) as error:
            azure.begin()
        assert code(error) == "LinkedAuthorizationFailed"
    cloud.world.denied = {"Microsoft.Compute/virtualMachines/write"}
    with pytest.raises(HttpResponseError) as error:
        azure.begin()
    assert code(error) == "AuthorizationFailed"


# ---------------------------------------------------------------- what fails later


@pytest.mark.parametrize(
    ("zones", "more", "word"),
    [
        (["1"], {}, "ZonalAllocationFailed"),
        (None, {}, "AllocationFailed"),
        (["1"], SPOT, "ZonalAllocationFailed"),
    ],
)
def test_a_machine_for_which_there_is_no_room_stays_as_failed(
    cloud: AzureCloud, azure: Azure, zones, more, word: str
) -> None:
    cloud.world.capacity["Standard_D4s_v5/*/*"] = 0
    begun = azure.begin(**more, **({"zones": zones} if zones else {}))
    with pytest.raises(HttpResponseError) as error:
        begun.result()
    assert code(error) == word
    found = azure.compute.virtual_machines.get(GROUP, "n1", expand="instanceView")
    assert found.provisioning_state == "Failed"
    assert [(s.code, s.level) for s in found.instance_view.statuses] == [(f"ProvisioningState/failed/{word}", "Error")]
    assert kinds(cloud) == ["disks", "networkInterfaces", "virtualMachines"]
    azure.delete()
    assert kinds(cloud) == [] and cloud.world.capacity["Standard_D4s_v5/*/*"] == 0


def test_room_is_taken_and_given_back(cloud: AzureCloud, azure: Azure) -> None:
    cloud.world.capacity["*/1/spot"] = 1
    azure.make("n1", zones=["1"], **SPOT)
    with pytest.raises(HttpResponseError):
        azure.begin("n2", zones=["1"], **SPOT).result()
    azure.make("n3", zones=["2"], **SPOT)
    azure.delete("n1")
    assert cloud.world.capacity["*/1/spot"] == 1


def test_a_stockout_may_be_told_at_once(cloud: AzureCloud, azure: Azure) -> None:
    cloud.world.capacity["*/*/*"], cloud.world.refused_at_once = 0, True
    assert refused(azure, vm("n1", zones=["1"])) == "SkuNotAvailable"


def test_near_one_another_there_is_less_room(cloud: AzureCloud, azure: Azure) -> None:
    group = azure.compute.proximity_placement_groups.create_or_update(GROUP, "p", {"location": "eastus"})
    cloud.world.capacity["*/*/*"] = 0
    with pytest.raises(HttpResponseError) as error:
        azure.begin(proximityPlacementGroup={"id": group.id}).result()
    assert code(error) == "OverconstrainedAllocationRequest"


def test_a_machine_may_come_to_nothing_after_it_was_given_room(cloud: AzureCloud, azure: Azure) -> None:
    cloud.world.stillborn = lambda name: Failure("OSProvisioningTimedOut", "OS Provisioning did not finish in time.")
    with pytest.raises(HttpResponseError) as error:
        azure.begin().result()
    assert code(error) == "OSProvisioningTimedOut"
    assert azure.codes() == ["ProvisioningState/failed/OSProvisioningTimedOut"]


def test_reserved_room_is_for_machines_of_its_group(cloud: AzureCloud, azure: Azure) -> None:
    groups, reservations = azure.compute.capacity_reservation_groups, azure.compute.capacity_reservations
    group = groups.create_or_update(GROUP, "r", {"location": "eastus", "zones": ["1"]})
    body: Any = {"location": "eastus", "zones": ["1"], "sku": {"name": "Standard_D4s_v5", "capacity": 1}}
    reservations.begin_create_or_update(GROUP, "r", "one", body).result()
    cloud.world.capacity["*/*/*"] = 0
    mine = {"capacityReservation": {"capacityReservationGroup": {"id": group.id}}}
    azure.make("n1", zones=["1"], **mine)
    with pytest.raises(HttpResponseError) as error:
        azure.begin("n2", zones=["1"], **mine).result()
    assert code(error) == "ZonalAllocationFailed"
    with pytest.raises(ResourceExistsError, match="no reservation of the size"):
        azure.begin("n3", "Standard_D8s_v5", zones=["1"], **mine)


# ---------------------------------------------------------------- changes


def test_tags_and_little_else_may_change(cloud: AzureCloud, azure: Azure) -> None:
    azure.make(tags={"a": "1"})
    machines = azure.compute.virtual_machines
    assert machines.begin_update(GROUP, "n1", {"tags": {"b": "2"}}).result().tags == {"b": "2"}
    assert machines.begin_create_or_update(GROUP, "n1", vm("n1", tags={"c": "3"})).result().tags == {"c": "3"}
    for body in (vm("n1", zones=["1"]), vm("n1", **SPOT), vm("n1", papers=b"another")):
        with pytest.raises(ResourceExistsError) as error:
            machines.begin_create_or_update(GROUP, "n1", body)
        assert code(error) == "PropertyChangeNotAllowed"
    assert azure.codes() == ["ProvisioningState/succeeded", "PowerState/running"]
    assert len(list(azure.network.network_interfaces.list(GROUP))) == 1


def test_a_card_is_one_machines(cloud: AzureCloud, azure: Azure) -> None:
    body: Any = {
        "location": "eastus",
        "properties": {"ipConfigurations": [{"name": "m", "properties": {"subnet": {"id": SUBNET}}}]},
    }
    made = azure.network.network_interfaces.begin_create_or_update(GROUP, "c", body).result()
    azure.make("n1", networkProfile={"networkInterfaces": [{"id": made.id, "properties": {"deleteOption": "Detach"}}]})
    with pytest.raises(HttpResponseError) as error:
        azure.begin("n2", networkProfile={"networkInterfaces": [{"id": made.id}]})
    assert code(error) == "NicInUse"
    with pytest.raises(HttpResponseError) as error:
        azure.network.network_interfaces.begin_delete(GROUP, "c")
    assert code(error) == "NicInUse"
    azure.delete("n1")
    azure.network.network_interfaces.begin_delete(GROUP, "c").result()


# ---------------------------------------------------------------- the graph


def test_the_graph_says_which_machines_run_and_says_it_late(cloud: AzureCloud, azure: Azure) -> None:
    clock = [0.0]
    cloud.world.clock, cloud.world.graph_delay = (lambda: clock[0]), 60.0
    azure.make("n1", tags={"a": "b"})
    graph = cloud.client(ResourceGraphClient)
    query = (
        "resources | where type =~ 'Microsoft.Compute/virtualMachines' and resourceGroup =~ 'G' and tags['a'] == 'b' "
        "| project name, power = tostring(properties.extended.instanceView.powerState.code) | order by name asc"
    )

    def ask() -> Any:
        return graph.resources({"subscriptions": [SUBSCRIPTION], "query": query}).data

    assert ask() == []
    clock[0] = 60.0
    assert ask() == [{"name": "n1", "power": "PowerState/running"}]
    cloud.shut_down("n1")
    assert ask() == [{"name": "n1", "power": "PowerState/running"}]
    clock[0] = 120.0
    assert ask() == [{"name": "n1", "power": "PowerState/stopped"}]


def test_a_list_of_all_resources_can_be_filtered_by_tag(cloud: AzureCloud, azure: Azure) -> None:
    azure.make("n1", tags={"a": "b"})
    resources = cloud.client(ResourceManagementClient).resources
    assert [r.name for r in resources.list(filter="tagName eq 'a' and tagValue eq 'b'")] == ["n1"]
    assert [
        r.name for r in resources.list_by_resource_group(GROUP, filter="resourceType eq 'Microsoft.Compute/disks'")
    ] == ["n1"]


def test_a_machine_that_is_gone_is_not_found(azure: Azure) -> None:
    with pytest.raises(ResourceNotFoundError) as error:
        azure.compute.virtual_machines.instance_view(GROUP, "n1")
    assert code(error) == "ResourceNotFound"
