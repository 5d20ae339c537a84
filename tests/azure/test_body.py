"""What a VM is asked to be: each body is judged by Microsoft's own schema, and is refused where Azure would refuse it later."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest
from clusterctl_providers.azure.images.lookup import GIB, Image
from clusterctl_providers.azure.machines.body import Wish, shared_body, vm_of
from clusterctl_providers.azure.machines.series import PREMIUM, STANDARD, size_of
from clusterctl_providers.azure.network.card import Card
from clusterctl_providers.catalog import InstanceType, instance_types

from clusterctl.core.errors import BadRequest
from tests.cloud.azure.schema.check import problems
from tests.cloud.azure.schema.routes import routes

GROUP = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/g"
SUBNET = f"{GROUP}/providers/Microsoft.Network/virtualNetworks/n/subnets/default"
RULES = f"{GROUP}/providers/Microsoft.Network/networkSecurityGroups/r"
UBUNTU = Image(
    id="Canonical:ubuntu-24_04-lts:server:1",
    arch="x86_64",
    reference={"publisher": "Canonical", "offer": "ubuntu-24_04-lts", "sku": "server", "version": "1"},
    size=30 * GIB,
    trusted=True,
    controllers=frozenset({"SCSI", "NVMe"}),
)
ALL = {
    "PremiumIO": "True",
    "AcceleratedNetworkingEnabled": "True",
    "EncryptionAtHostSupported": "True",
    "HyperVGenerations": "V1,V2",
    "DiskControllerTypes": "SCSI,NVMe",
}
TYPES = {machine.name: machine for machine in instance_types("azure")}


def machine(name: str) -> InstanceType:
    return TYPES[name]


def wish(name: str = "Standard_D2s_v5", can: dict[str, str] = ALL, **more: Any) -> Wish:
    given = {"image": UBUNTU, "region": "eastus", "zone": "1", "market": "on-demand", "card": Card(SUBNET, RULES)}
    return Wish(machine(name), size_of(name, can), user="ubuntu", key="ssh-ed25519 AAAA", **{**given, **more})


def body_of(of: Wish) -> dict[str, Any]:
    """The whole PUT, of which Microsoft's schema has nothing to say."""
    body = vm_of(shared_body(of), "clusterctl-demo-1a2b3c4d-cpu-1-1", {"clusterctl-node": "cpu-1"}, "#!/bin/sh\n")
    route, _, _ = routes().find("PUT", f"{GROUP}/providers/Microsoft.Compute/virtualMachines/x")
    assert route is not None and route.body is not None
    assert list(problems(body, route.body)) == []
    return body


def test_a_worker_has_all_that_goes_with_it_and_says_who_it_is() -> None:
    body = body_of(wish(tags={"team": "vision"}))
    properties, name = body["properties"], "clusterctl-demo-1a2b3c4d-cpu-1-1"
    assert body["zones"] == ["1"] and body["location"] == "eastus"
    assert body["tags"] == {"team": "vision", "clusterctl-node": "cpu-1"}
    disk = properties["storageProfile"]["osDisk"]
    assert (disk["name"], disk["deleteOption"], disk["diskSizeGB"]) == (name, "Delete", 30)
    assert disk["managedDisk"] == {"storageAccountType": PREMIUM}
    assert properties["networkProfile"]["networkApiVersion"] == "2022-11-01"
    (card,) = properties["networkProfile"]["networkInterfaceConfigurations"]
    assert (card["name"], card["tags"], card["properties"]["deleteOption"]) == (name, body["tags"], "Delete")
    assert card["properties"]["networkSecurityGroup"] == {"id": RULES}
    assert card["properties"]["enableAcceleratedNetworking"]
    (address,) = card["properties"]["ipConfigurations"]
    assert address["properties"]["subnet"] == {"id": SUBNET}
    assert "publicIPAddressConfiguration" not in address["properties"]
    assert properties["osProfile"]["computerName"] == name
    assert base64.b64decode(properties["osProfile"]["customData"]) == b"#!/bin/sh\n"
    assert properties["osProfile"]["linuxConfiguration"]["disablePasswordAuthentication"]
    assert properties["securityProfile"]["securityType"] == "TrustedLaunch"
    assert properties["securityProfile"]["uefiSettings"] == {"secureBootEnabled": True, "vTpmEnabled": True}
    assert "priority" not in properties and "identity" not in body and "plan" not in body


def test_a_spot_machine_is_deleted_when_it_is_taken_and_costs_no_more_than_it_may() -> None:
    properties = body_of(wish(market="spot", max_price=0.05))["properties"]
    assert (properties["priority"], properties["evictionPolicy"]) == ("Spot", "Delete")
    assert properties["billingProfile"] == {"maxPrice": 0.05}


def test_a_public_address_goes_with_its_machine() -> None:
    properties = body_of(wish(card=Card(SUBNET, RULES, public=True, groups=(f"{GROUP}/a",))))["properties"]
    (card,) = properties["networkProfile"]["networkInterfaceConfigurations"]
    address = card["properties"]["ipConfigurations"][0]["properties"]
    public = address["publicIPAddressConfiguration"]
    assert public["properties"]["deleteOption"] == "Delete" and public["sku"] == {"name": "Standard"}
    assert public["name"] == card["name"] and public["tags"] == card["tags"]
    assert address["applicationSecurityGroups"] == [{"id": f"{GROUP}/a"}]


def test_the_heads_card_is_made_before_it_and_stays() -> None:
    properties = body_of(wish(card=f"{GROUP}/card", identity=f"{GROUP}/identity"))["properties"]
    assert properties["networkProfile"] == {
        "networkInterfaces": [{"id": f"{GROUP}/card", "properties": {"primary": True, "deleteOption": "Detach"}}]
    }


def test_what_the_settings_name_is_in_the_body() -> None:
    body = body_of(
        wish(
            disk=200 * GIB,
            disk_type="StandardSSD_LRS",
            disk_encryption_set=f"{GROUP}/set",
            encryption_at_host=True,
            trusted_launch=False,
            identity=f"{GROUP}/identity",
            proximity=f"{GROUP}/ppg",
            reservation_group=f"{GROUP}/crg",
            image=replace(UBUNTU, plan={"name": "p", "publisher": "q", "product": "r"}),
        )
    )
    properties = body["properties"]
    disk = properties["storageProfile"]["osDisk"]
    assert disk["diskSizeGB"] == 200
    assert disk["managedDisk"] == {"storageAccountType": STANDARD, "diskEncryptionSet": {"id": f"{GROUP}/set"}}
    assert properties["securityProfile"] == {"encryptionAtHost": True}
    assert body["identity"] == {"type": "UserAssigned", "userAssignedIdentities": {f"{GROUP}/identity": {}}}
    assert properties["proximityPlacementGroup"] == {"id": f"{GROUP}/ppg"}
    assert properties["capacityReservation"] == {"capacityReservationGroup": {"id": f"{GROUP}/crg"}}
    assert body["plan"] == {"name": "p", "publisher": "q", "product": "r"}


def test_an_availability_set_is_in_no_zone() -> None:
    body = body_of(wish(availability_set=f"{GROUP}/set", proximity=f"{GROUP}/ppg"))
    assert "zones" not in body and body["properties"]["availabilitySet"] == {"id": f"{GROUP}/set"}


def test_a_region_without_zones_names_none() -> None:
    assert "zones" not in body_of(wish(zone=""))


@pytest.mark.parametrize(
    ("change", "secure"),
    [({"own_image": True}, False), ({"image": replace(UBUNTU, driver=True)}, False), ({}, True)],
)
def test_only_what_is_signed_boots_securely(change: dict[str, Any], secure: bool) -> None:
    uefi = body_of(wish(**change))["properties"]["securityProfile"]["uefiSettings"]
    assert uefi == {"secureBootEnabled": secure, "vTpmEnabled": True}


@pytest.mark.parametrize(
    "change",
    [
        {"image": replace(UBUNTU, trusted=False)},
        {"can": {**ALL, "TrustedLaunchDisabled": "True"}},
        {"can": {}},
        {"trusted_launch": False},
    ],
)
def test_trusted_launch_is_asked_for_where_size_and_image_are_known_to_take_it(change: dict[str, Any]) -> None:
    assert "securityProfile" not in body_of(wish(**change))["properties"]


def test_a_size_with_nvme_alone_says_so() -> None:
    nvme = {**ALL, "DiskControllerTypes": "NVMe"}
    assert body_of(wish(can=nvme))["properties"]["storageProfile"]["diskControllerType"] == "NVMe"
    with pytest.raises(BadRequest, match="has disks by NVMe, for which the image"):
        shared_body(wish(can=nvme, image=replace(UBUNTU, controllers=frozenset({"SCSI"}))))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"disk": 5 * GIB}, "`disk` of the pool says 5 GiB"),
        ({"can": {**ALL, "PremiumIO": "False"}, "disk_type": PREMIUM}, "takes no Premium_LRS disk"),
        ({"can": {**ALL, "EncryptionAtHostSupported": "False"}, "encryption_at_host": True}, "no encryption at host"),
        ({"can": {**ALL, "HyperVGenerations": "V2"}, "image": replace(UBUNTU, generation="V1")}, "of generation V1"),
    ],
)
def test_what_does_not_go_together_is_refused_before_the_launch(change: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        shared_body(wish(**change))


@pytest.mark.parametrize(
    ("name", "premium", "infiniband"),
    [
        ("Standard_D2s_v5", True, False),
        ("Standard_D2_v5", False, False),
        ("Standard_ND96isr_H100_v5", True, True),
        ("Standard_ND96is_MI300X_v5", True, False),
        ("Standard_HB176rs_v4", True, True),
        ("Standard_HC44-16rs", True, True),
        ("Standard_NC24ads_A100_v4", True, False),
    ],
)
def test_a_name_says_what_azure_does_not(name: str, premium: bool, infiniband: bool) -> None:
    size = size_of(name, {})
    assert (size.premium, size.infiniband) == (premium, infiniband)
    assert size.disk_type == (PREMIUM if premium else STANDARD) and not size.accelerated and not size.trusted


def test_a_gpu_machine_has_room_for_what_goes_with_its_driver() -> None:
    body = body_of(wish("Standard_NC24ads_A100_v4", image=replace(UBUNTU, driver=True)))
    assert body["properties"]["storageProfile"]["osDisk"]["diskSizeGB"] == 128
