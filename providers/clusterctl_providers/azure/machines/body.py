"""What a VM is asked to be, in Azure's words: the body of its PUT.

Its network card, its public address and its disk are made with it, and go with it (`deleteOption`). What differs from node to
node of a launch (name, tags, papers) is put in last, by `vm_of`.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clusterctl.core.errors import BadRequest
from clusterctl_providers.azure.images.lookup import Image
from clusterctl_providers.azure.machines.series import Size
from clusterctl_providers.azure.network.card import Card
from clusterctl_providers.catalog import InstanceType

GIB = 1024**3
DISK = 30 * GIB
GPU_DISK = 128 * GIB  # CUDA, and what goes with it
MOST_USER_DATA = 65_535  # bytes; Azure takes 87,380 characters of base64
CARD_VERSION = "2022-11-01"  # of the network's API, in which Compute makes a card: the newest that it takes
GENERATION_2 = "V2"


@dataclass(frozen=True)
class Wish:
    """All that the VMs of a launch have in common. `disk`: bytes, 0 for the usual; `card` is an id where it was made before, as
    a head's is, which keeps its address; `key`: what may log in as `user`. Ids are "" for none."""

    machine: InstanceType
    size: Size
    image: Image
    region: str
    zone: str
    market: str
    card: Card | str
    user: str
    key: str
    disk: int = 0
    disk_type: str = ""
    disk_encryption_set: str = ""
    encryption_at_host: bool = False
    trusted_launch: bool = True
    own_image: bool = False
    max_price: float = -1.0
    identity: str = ""
    proximity: str = ""
    availability_set: str = ""  # which is in no zone
    reservation_group: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


def shared_body(wish: Wish) -> dict[str, Any]:
    """Raises BadRequest where the image does not fit onto the disk or the size, or the size does not do what the settings ask
    for."""
    _check_image(wish)
    properties: dict[str, Any] = {
        "hardwareProfile": {"vmSize": wish.size.name},
        "storageProfile": _storage(wish),
        "osProfile": _login(wish),
        "networkProfile": _network(wish),
        "diagnosticsProfile": {"bootDiagnostics": {"enabled": True}},
        **_spot(wish),
    }
    if security := _security(wish):
        properties["securityProfile"] = security
    for name, link in (
        ("proximityPlacementGroup", wish.proximity),
        ("availabilitySet", wish.availability_set),
    ):
        if link:
            properties[name] = {"id": link}
    if wish.reservation_group:
        properties["capacityReservation"] = {"capacityReservationGroup": {"id": wish.reservation_group}}
    body: dict[str, Any] = {"location": wish.region, "tags": dict(wish.tags), "properties": properties}
    if wish.zone and not wish.availability_set:
        body["zones"] = [wish.zone]
    if wish.image.plan:
        body["plan"] = dict(wish.image.plan)
    if wish.identity:
        body["identity"] = {"type": "UserAssigned", "userAssignedIdentities": {wish.identity: {}}}
    return body


def vm_of(shared: Mapping[str, Any], name: str, tags: Mapping[str, str], user_data: str) -> dict[str, Any]:
    """The body of the PUT of the VM `name`."""
    body: dict[str, Any] = copy.deepcopy(dict(shared))
    body["tags"] |= tags
    properties = body["properties"]
    properties["osProfile"] |= {
        "computerName": name,
        "customData": base64.b64encode(user_data.encode()).decode(),
    }
    properties["storageProfile"]["osDisk"]["name"] = name
    for card in properties["networkProfile"].get("networkInterfaceConfigurations") or ():
        card |= {"name": name, "tags": dict(body["tags"])}
        for address in card["properties"]["ipConfigurations"]:
            if public := address["properties"].get("publicIPAddressConfiguration"):
                public |= {"name": name, "tags": dict(body["tags"])}
    return body


def _check_image(wish: Wish) -> None:
    image, size = wish.image, wish.size
    if size.generations and image.generation not in size.generations:
        raise BadRequest(
            f"the image {image.id} is for machines of generation {image.generation}, {size.name} is one of "
            f"{' and '.join(sorted(size.generations))}: name another `image`, or another size"
        )
    if not size.controllers & image.controllers:
        raise BadRequest(
            f"{size.name} has disks by {' or '.join(sorted(size.controllers))}, for which the image {image.id} has no driver: "
            "name another `image`, or another size"
        )


def _storage(wish: Wish) -> dict[str, Any]:
    """SCSI is what Azure takes where nothing is said."""
    found: dict[str, Any] = {"imageReference": dict(wish.image.reference), "osDisk": _disk(wish)}
    if "SCSI" not in wish.size.controllers & wish.image.controllers:
        found["diskControllerType"] = "NVMe"
    return found


def _disk(wish: Wish) -> dict[str, Any]:
    image, wanted = wish.image, wish.disk
    if 0 < wanted < image.size:
        raise BadRequest(
            f"the image {image.id} has a disk of {image.size // GIB} GiB, `disk` of the pool says {wanted / GIB:.3g} GiB: "
            "raise it, or leave it out"
        )
    size = wanted or max(image.size, GPU_DISK if wish.machine.gpu_vendor == "nvidia" else DISK)
    kind = wish.disk_type or wish.size.disk_type
    if kind.startswith("Premium") and not wish.size.premium:
        raise BadRequest(
            f"{wish.size.name} takes no {kind} disk: leave `disk_type` of the provider out, or name another size"
        )
    managed: dict[str, Any] = {"storageAccountType": kind}
    if wish.disk_encryption_set:
        managed["diskEncryptionSet"] = {"id": wish.disk_encryption_set}
    return {
        "createOption": "FromImage",
        "deleteOption": "Delete",
        "caching": "ReadWrite",
        "diskSizeGB": -(-size // GIB),
        "managedDisk": managed,
    }


def _login(wish: Wish) -> dict[str, Any]:
    keys = [{"path": f"/home/{wish.user}/.ssh/authorized_keys", "keyData": wish.key}]
    return {
        "adminUsername": wish.user,
        "linuxConfiguration": {"disablePasswordAuthentication": True, "ssh": {"publicKeys": keys}},
    }


def _network(wish: Wish) -> dict[str, Any]:
    if isinstance(wish.card, str):
        # it is the head's, and made before: its address outlives the machine
        card: dict[str, Any] = {"id": wish.card, "properties": {"primary": True, "deleteOption": "Detach"}}
        return {"networkInterfaces": [card]}
    address: dict[str, Any] = {"subnet": {"id": wish.card.subnet}, "primary": True}
    if wish.card.public:
        address["publicIPAddressConfiguration"] = {
            "sku": {"name": "Standard"},
            "properties": {"deleteOption": "Delete", "publicIPAllocationMethod": "Static"},
        }
    if wish.card.groups:
        address["applicationSecurityGroups"] = [{"id": group} for group in wish.card.groups]
    properties: dict[str, Any] = {
        "primary": True,
        "deleteOption": "Delete",
        "ipConfigurations": [{"name": "main", "properties": address}],
    }
    if wish.card.security_group:
        properties["networkSecurityGroup"] = {"id": wish.card.security_group}
    if wish.size.accelerated:
        properties["enableAcceleratedNetworking"] = True
    return {"networkApiVersion": CARD_VERSION, "networkInterfaceConfigurations": [{"properties": properties}]}


def _spot(wish: Wish) -> dict[str, Any]:
    """What ends a spot machine deletes it: one that is only deallocated costs its disk, and is of no use."""
    if wish.market != "spot":
        return {}
    return {"priority": "Spot", "evictionPolicy": "Delete", "billingProfile": {"maxPrice": wish.max_price}}


def _security(wish: Wish) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if wish.trusted_launch and wish.size.trusted and wish.image.trusted:
        # NVIDIA's driver, and whatever is in an image of the user's, may not be signed
        secure = not wish.own_image and not wish.image.driver
        uefi = {"secureBootEnabled": secure, "vTpmEnabled": True}
        found |= {"securityType": "TrustedLaunch", "uefiSettings": uefi}
    if wish.encryption_at_host:
        if not wish.size.host_encrypted:
            raise BadRequest(
                f"{wish.size.name} has no encryption at host: name another size, or leave `encryption_at_host` out"
            )
        found["encryptionAtHost"] = True
    return found
