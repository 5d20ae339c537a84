"""What an instance is asked to be, in Google's words. Properties name types, as bulkInsert and templates take them; a single
instance is asked for with the same properties, its types by their paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clusterctl.core.errors import BadRequest
from clusterctl_providers.catalog import InstanceType
from clusterctl_providers.gcp.images.lookup import GIB, Image
from clusterctl_providers.gcp.machines.accelerators import machine_of
from clusterctl_providers.gcp.machines.series import disk_type, is_movable
from clusterctl_providers.gcp.market.reservations import FLEX_START

DISK = 30 * GIB
GPU_DISK = 100 * GIB  # the Deep Learning VM's image alone has 50
_NO_OS_LOGIN = {"enable-oslogin": "FALSE", "block-project-ssh-keys": "TRUE"}
_SHIELDED, _GVNIC = "UEFI_COMPATIBLE", "GVNIC"


@dataclass(frozen=True)
class Wish:
    """All that an instance's properties follow from. `disk`: bytes, 0 for the usual; `metadata` besides what is always there;
    `policy`: the name of a placement policy, "" for none; `reservation`: what it is launched into, as Google's affinity wants
    it; `run_seconds`: how long a flex-start machine runs."""

    machine: InstanceType
    image: Image
    market: str
    interface: Mapping[str, Any]
    disk: int = 0
    disk_type: str = ""
    kms_key: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    network_tags: Sequence[str] = ()
    accounts: Sequence[Mapping[str, Any]] = ()
    policy: str = ""
    reservation: str = ""
    bound: bool = False  # to the reservation, with which it ends
    own_image: bool = False
    restarts: bool = False  # after its host broke
    run_seconds: int = 0


def properties(wish: Wish) -> dict[str, Any]:
    """InstanceProperties. Raises BadRequest where the image does not fit onto the disk."""
    machine = machine_of(wish.machine.name)
    labels = dict(wish.labels)
    found: dict[str, Any] = {
        "machineType": machine.machine_type,
        "disks": [_boot_disk(wish, machine.machine_type)],
        "networkInterfaces": [_interface(wish)],
        "labels": labels,
        "metadata": {"items": _items({**_NO_OS_LOGIN, **wish.metadata})},
        "scheduling": _scheduling(wish, machine.machine_type),
    }
    if wish.network_tags:
        found["tags"] = {"items": list(wish.network_tags)}
    if wish.accounts:
        found["serviceAccounts"] = [dict(account) for account in wish.accounts]
    if machine.count:
        found["guestAccelerators"] = [{"acceleratorType": machine.device, "acceleratorCount": machine.count}]
    if _SHIELDED in wish.image.features:
        # NVIDIA's driver, and whatever is in an image of the user's, may not be signed
        secure = not wish.own_image and not wish.image.driver
        found["shieldedInstanceConfig"] = {
            "enableSecureBoot": secure,
            "enableVtpm": True,
            "enableIntegrityMonitoring": True,
        }
    if wish.policy:
        found["resourcePolicies"] = [wish.policy]
    affinity = _affinity(wish)
    if affinity:
        found["reservationAffinity"] = affinity
    return found


def instance_of(found: Mapping[str, Any], name: str, zone: str, region_path: str) -> dict[str, Any]:
    """The same as the body of instances.insert. `region_path`: "projects/P/regions/R", where its policies are."""
    body: dict[str, Any] = {**found, "name": name, "machineType": f"zones/{zone}/machineTypes/{found['machineType']}"}
    disks: list[dict[str, Any]] = []
    for disk in found["disks"]:
        first = dict(disk["initializeParams"])
        first["diskType"] = f"zones/{zone}/diskTypes/{first['diskType']}"
        disks.append({**disk, "initializeParams": first})
    body["disks"] = disks
    if "guestAccelerators" in found:
        body["guestAccelerators"] = [
            {**one, "acceleratorType": f"zones/{zone}/acceleratorTypes/{one['acceleratorType']}"}
            for one in found["guestAccelerators"]
        ]
    if "resourcePolicies" in found:
        body["resourcePolicies"] = [f"{region_path}/resourcePolicies/{policy}" for policy in found["resourcePolicies"]]
    return body


def _boot_disk(wish: Wish, machine_type: str) -> dict[str, Any]:
    image, wanted = wish.image, wish.disk
    if 0 < wanted < image.size:
        raise BadRequest(
            f"the image {image.id} has a disk of {image.size // GIB} GiB, `disk` of the pool says {wanted / GIB:.3g} GiB: "
            "raise it, or leave it out"
        )
    size = wanted or max(image.size, GPU_DISK if wish.machine.gpu_vendor == "nvidia" else DISK)
    first: dict[str, Any] = {
        "sourceImage": image.id,
        "diskType": wish.disk_type or disk_type(machine_type),
        "diskSizeGb": str(-(-size // GIB)),
        "labels": dict(wish.labels),
    }
    disk: dict[str, Any] = {"boot": True, "autoDelete": True, "initializeParams": first}
    if wish.kms_key:
        disk["diskEncryptionKey"] = {"kmsKeyName": wish.kms_key}
    return disk


def _interface(wish: Wish) -> dict[str, Any]:
    nic = {"nicType": "GVNIC"} if _GVNIC in wish.image.features else {}
    return {**nic, **wish.interface}


def _scheduling(wish: Wish, machine_type: str) -> dict[str, Any]:
    """Whatever ends a machine of a market that is taken away deletes it: a stopped one costs its disk, and is of no use."""
    moves = is_movable(machine_type) and not wish.machine.gpu_count and not wish.policy
    if wish.market == "spot":
        return {
            "provisioningModel": "SPOT",
            "instanceTerminationAction": "DELETE",
            "automaticRestart": False,
            "onHostMaintenance": "TERMINATE",
        }
    if wish.market == FLEX_START:
        return {
            "provisioningModel": "FLEX_START",
            "instanceTerminationAction": "DELETE",
            "automaticRestart": False,
            "onHostMaintenance": "TERMINATE",
            "maxRunDuration": {"seconds": str(wish.run_seconds)},
        }
    where = "MIGRATE" if moves else "TERMINATE"
    plain = {"automaticRestart": wish.restarts, "onHostMaintenance": where}
    if wish.reservation and wish.bound:
        return {**plain, "provisioningModel": "RESERVATION_BOUND", "instanceTerminationAction": "DELETE"}
    return {**plain, "provisioningModel": "STANDARD"}


def _affinity(wish: Wish) -> dict[str, Any]:
    if wish.reservation:
        return {
            "consumeReservationType": "SPECIFIC_RESERVATION",
            "key": "compute.googleapis.com/reservation-name",
            "values": [wish.reservation],
        }
    return {"consumeReservationType": "NO_RESERVATION"} if wish.market == FLEX_START else {}


def _items(metadata: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in sorted(metadata.items())]
