"""The head's machine on Google Cloud: the persistent disk with its state, which outlives it, and the address that a successor
takes over, so that the nodes find it again (docs/adr/0502, docs/adr/0516)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clusterctl.core.errors import BadRequest, NotYet, ProviderError
from clusterctl_providers.base import (
    TAG_DISK,
    TAG_HEAD,
    TAG_UID,
    AddressHolder,
    HeadDisk,
    HeadMachine,
    NetworkPlace,
    Whereabouts,
)
from clusterctl_providers.cloud.keys import public_key
from clusterctl_providers.gcp.calls import Calls, last_part, relative
from clusterctl_providers.gcp.errors import is_missing, is_taken, reason_behind
from clusterctl_providers.gcp.machines.series import disk_type
from clusterctl_providers.gcp.network.address import HeadAddress
from clusterctl_providers.gcp.network.network import Network

GIB = 1024**3
LEAST = 10  # GiB that a persistent disk has
_NOT_YET = frozenset({
    "RESOURCE_NOT_READY", "resourceNotReady", "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", "resourceInUseByAnotherResource",
    "RESOURCE_IN_USE",
})  # fmt: skip
CONSOLE_END = 20_000  # bytes


class HeadParts:
    """Implements `base.HasHeadMachine` for the provider."""

    def __init__(self, calls: Calls, settings: Mapping[str, Any], network: Network, uid: str) -> None:
        self._calls, self._settings, self._network, self._uid = calls, settings, network, uid
        self._address = HeadAddress(calls, network)

    # ------------------------------------------------------------ the disk

    def disk(self) -> HeadDisk | None:
        """The oldest one, should there ever be two."""
        wanted = f"labels.{TAG_UID}={self._uid} AND labels.{TAG_DISK}=head"
        what = "looking for the disk of the head"
        rows = [
            row
            for page in self._calls.pages("aggregated/disks", what, filter=wanted)
            for scoped in (page.get("items") or {}).values()
            for row in scoped.get("disks") or ()
            if row.get("status") not in ("DELETING", "FAILED")
        ]
        return _disk(min(rows, key=lambda row: (str(row.get("creationTimestamp")), row["selfLink"]))) if rows else None

    def make_disk(self, zone: str, size: int, token: str) -> HeadDisk:
        """Encrypted, as Google does with all disks, or with the key of the settings; `size` in bytes is rounded up to whole GiB.
        Its name makes it one disk."""
        name, what = self._network.part("head"), f"making the head's disk in {zone}"
        key = str(self._settings.get("kms_key") or "")
        body = {
            "name": name,
            "sizeGb": str(max(LEAST, -(-size // GIB))),
            "type": f"projects/{self._calls.project}/zones/{zone}/diskTypes/{self._disk_type()}",
            "labels": self._network.labels(**{TAG_DISK: "head"}),
            "description": f"the state of the head of the clusterctl cluster {self._network.owner().cluster}",
            **({"diskEncryptionKey": {"kmsKeyName": key}} if key else {}),
        }
        try:
            self._calls.run("POST", f"zones/{zone}/disks", what, body, requestId=request_id(f"{token}/{zone}"))
        except ProviderError as error:
            if not is_taken(error):  # an earlier try whose answer was lost
                raise
        found = self._calls.get(f"zones/{zone}/disks/{name}", f"looking at the head's disk {name}")
        self._network.owner().check(found, f"a disk {name}")
        return _disk(found)

    def _disk_type(self) -> str:
        """What the head's machine takes: it is there before its disk is made."""
        wanted = f"labels.{TAG_UID}={self._uid} AND labels.{TAG_HEAD}=here"
        what = "asking for the machine type of the head"
        for page in self._calls.pages("aggregated/instances", what, filter=wanted):
            for scoped in (page.get("items") or {}).values():
                for row in scoped.get("instances") or ():
                    return disk_type(last_part(str(row["machineType"])))
        return disk_type("")

    def attach(self, disk: HeadDisk, instance_id: str) -> bool:
        """False, too, while another instance still has it, or one of the two is not ready for it."""
        zone, _, name = instance_id.partition("/")
        try:
            found = self._read(disk)
            if found.attached_to:
                return found.attached_to == instance_id  # its former instance is about to let it go
            what = f"attaching the head's disk {last_part(disk.id)} to {name}"
            body = {
                "source": f"projects/{self._calls.project}/zones/{disk.zone}/disks/{last_part(disk.id)}",
                "deviceName": last_part(disk.id),
                "mode": "READ_WRITE",
                "autoDelete": False,
            }
            self._calls.run("POST", f"zones/{zone}/instances/{name}/attachDisk", what, body)
        except ProviderError as error:
            if reason_behind(error) not in _NOT_YET:
                raise
            return False
        return True

    def _read(self, disk: HeadDisk) -> HeadDisk:
        name = last_part(disk.id)
        return _disk(self._calls.get(f"zones/{disk.zone}/disks/{name}", f"looking at the head's disk {name}"))

    # ------------------------------------------------------------ its place in the network

    def whereabouts(self, instance_id: str) -> Whereabouts:
        """Raises NotYet while Google does not show the instance."""
        zone, _, name = instance_id.partition("/")
        what = f"asking for the addresses of {instance_id}"
        try:
            row = self._calls.get(f"zones/{zone}/instances/{name}", what)
        except ProviderError as error:
            if is_missing(error):
                raise NotYet(f"{what}: Google Cloud does not show it") from error.__cause__
            raise
        card: dict[str, Any] = next(iter(row.get("networkInterfaces") or ()), {})
        public = next((str(access["natIP"]) for access in card.get("accessConfigs") or () if access.get("natIP")), "")
        place = NetworkPlace(relative(str(card.get("subnetwork") or "")), str(card.get("networkIP") or ""))
        return Whereabouts(public, place)

    def address_holder(self, place: NetworkPlace) -> AddressHolder | None:
        return self._address.holder(place)


def head_interface(calls: Calls, network: Network, head: HeadMachine, place: NetworkPlace | None) -> dict[str, Any]:
    """The network card of the head's machine, in its reserved address, which is made where it is missing. Its network tags are
    `network.tags(head=True)`."""
    address = HeadAddress(calls, network).reserve(place)
    return {**network.interface(public=head.public), **({"networkIP": address} if address else {})}


def login_metadata(auth: Mapping[str, Any], user: str, *, os_login: bool = False) -> dict[str, str]:
    """Metadata by which the guest's agent lets this user in with the key of the spec, or the one that was minted, and nobody
    else: keys of the project and OS Login are for other machines. With `os_login` Google's roles say who gets in."""
    if os_login:
        return {"block-project-ssh-keys": "TRUE", "enable-oslogin": "TRUE"}
    key, name = str(auth.get("key") or ""), str(auth.get("user") or "") or user
    found = {"block-project-ssh-keys": "TRUE", "enable-oslogin": "FALSE"}
    if key:
        public = public_key(Path(key).expanduser(), "Google Cloud").decode()
        found["ssh-keys"] = f"{name}:{' '.join(public.split()[:2])}"
    return found


def request_id(token: str) -> str:
    """A UUID, which is the form that Google wants: the same for the same token."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"clusterctl/{token}"))


def console_log(calls: Calls, instance_id: str) -> str:
    """The end of what the machine wrote to its serial port; "" where Google has none, as of one that is off."""
    zone, _, name = instance_id.partition("/")
    try:
        what = f"reading the console of {instance_id}"
        answer = calls.get(f"zones/{zone}/instances/{name}/serialPort", what, start=-CONSOLE_END)
    except BadRequest:
        return ""
    return str(answer.get("contents") or "")[-CONSOLE_END:]


def _disk(row: Mapping[str, Any]) -> HeadDisk:
    """A machine shows it by the name that it was attached under, which is the disk's own."""
    link, name = relative(str(row["selfLink"])), str(row["name"])
    zone = link.split("/")[3]
    users = [relative(str(user)).split("/") for user in row.get("users") or ()]
    paths = (f"/dev/disk/by-id/google-{name}", f"/dev/disk/by-id/scsi-0Google_PersistentDisk_{name}")
    return HeadDisk(f"{zone}/{name}", zone, paths, f"{users[0][3]}/{users[0][5]}" if users else "")
