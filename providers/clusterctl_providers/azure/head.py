"""The head's machine on Azure: the managed disk with its state, which outlives it, and where it is in the network (docs/adr/0502,
docs/adr/0522)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clusterctl.core.errors import NotYet, ProviderError
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.errors import code_behind, is_missing
from clusterctl_providers.azure.names import name_in, tags_in
from clusterctl_providers.azure.network.address import HeadAddress, place_of, public_link
from clusterctl_providers.azure.network.network import Network
from clusterctl_providers.base import TAG_DISK, AddressHolder, HeadDisk, HeadMachine, NetworkPlace, Whereabouts

GIB = 1024**3
LEAST = 4  # GiB of a managed disk that is worth having
DISK_TYPE = "StandardSSD_LRS"  # which machines of every size take
LUN = 0
# Where Azure's own rules for udev show it: those of azure-vm-utils, and the older ones of its agent.
PATHS = (f"/dev/disk/azure/data/by-lun/{LUN}", f"/dev/disk/azure/scsi1/lun{LUN}")
_NOT_YET = frozenset({
    "AttachDiskWhileBeingDetached", "ConflictingUserInput", "DiskInUse", "AnotherOperationInProgress", "OperationNotAllowed",
    "Conflict", "OperationPreempted", "RetryableError",
})  # fmt: skip


class HeadParts:
    """Implements `base.HasHeadMachine` for the provider."""

    def __init__(self, calls: Calls, settings: Mapping[str, Any], network: Network) -> None:
        self._calls, self._settings, self._network = calls, settings, network
        self.address = HeadAddress(calls, network)

    # ------------------------------------------------------------ the disk

    def disk(self) -> HeadDisk | None:
        """The oldest one, should there ever be two."""
        uid, path = self._network.group.owner().uid, self._network.group.path("Microsoft.Compute", "disks")
        try:
            rows = self._calls.list(path, "looking for the disk of the head")
        except ProviderError as error:
            if is_missing(error):
                return None
            raise
        ours = [row for row in rows if _is_heads(row, uid)]
        return _disk(min(ours, key=_age)) if ours else None

    def make_disk(self, zone: str, size: int, token: str) -> HeadDisk:
        """Encrypted, as Azure does with all disks, or with the key of the settings; reached by its machine alone. `size` in bytes
        is rounded up to whole GiB. Its name makes it one disk, whatever `token` is."""
        self._network.group.ensure()
        name = self._network.part("head")
        path, what = (
            self._network.group.path("Microsoft.Compute", "disks", name),
            f"making the head's disk in zone {zone}",
        )
        found = self._find(path, name)
        if found is None:
            self._calls.run("PUT", path, what, self._body(zone, size))
            found = self._find(path, name)
        if found is None:
            raise NotYet(f"{what}: Azure does not show it")
        return _disk(found)

    def _body(self, zone: str, size: int) -> dict[str, Any]:
        key = self._network.group.setting("disk_encryption_set", "Microsoft.Compute", "diskEncryptionSets")
        properties: dict[str, Any] = {
            "creationData": {"createOption": "Empty"},
            "diskSizeGB": max(LEAST, -(-size // GIB)),
            "networkAccessPolicy": "DenyAll",
            "publicNetworkAccess": "Disabled",
        }
        if key:
            properties["encryption"] = {"type": "EncryptionAtRestWithCustomerKey", "diskEncryptionSetId": key}
        return {
            "location": self._calls.region,
            "sku": {"name": str(self._settings.get("disk_type") or DISK_TYPE)},
            "tags": self._network.tags(**{TAG_DISK: "head"}),
            "properties": properties,
            **({"zones": [zone]} if zone else {}),
        }

    def _find(self, path: str, name: str) -> dict[str, Any] | None:
        try:
            found = self._calls.get(path, f"looking at the head's disk {name}")
        except ProviderError as error:
            if is_missing(error):
                return None
            raise
        self._network.group.owner().check(found, f"a disk {name}")
        return found

    def attach(self, disk: HeadDisk, instance_id: str) -> bool:
        """False, too, while another machine still has it, or one of the two is not ready. It stays when its machine goes."""
        what = f"attaching the head's disk {disk.id} to {instance_id}"
        path = self._network.group.path("Microsoft.Compute", "disks", disk.id)
        found = _disk(self._calls.get(path, f"looking at the head's disk {disk.id}"))
        if found.attached_to:
            return found.attached_to == instance_id  # its former machine is about to let it go
        wanted = {"diskId": path, "lun": LUN, "caching": "None", "deleteOption": "Detach"}
        try:
            self._calls.run(
                "POST", f"{self._machine(instance_id)}/attachDetachDataDisks", what, {"dataDisksToAttach": [wanted]}
            )
        except ProviderError as error:
            if code_behind(error) not in _NOT_YET:
                raise
            return False
        return True

    def _machine(self, instance_id: str) -> str:
        return self._network.group.path("Microsoft.Compute", "virtualMachines", instance_id)

    # ------------------------------------------------------------ its place in the network

    def whereabouts(self, instance_id: str) -> Whereabouts:
        """Raises NotYet while Azure does not show the machine, or its card."""
        what = f"asking for the addresses of {instance_id}"
        try:
            row = self._calls.get(self._machine(instance_id), what)
            cards = ((row.get("properties") or {}).get("networkProfile") or {}).get("networkInterfaces") or ()
            if not cards:
                raise NotYet(f"{what}: it has no network card yet")
            card = self._calls.get(str(cards[0]["id"]), what)
            link = public_link(card)
            public = (self._calls.get(link, what).get("properties") or {}).get("ipAddress") if link else ""
        except ProviderError as error:
            if is_missing(error):
                raise NotYet(f"{what}: Azure does not show it") from error.__cause__
            raise
        return Whereabouts(str(public or ""), place_of(card))

    def address_holder(self, place: NetworkPlace) -> AddressHolder | None:
        return self.address.holder(place)


def head_card(calls: Calls, network: Network, head: HeadMachine, place: NetworkPlace | None, machine: str) -> str:
    """The id of the network card for the head's machine, which is named so: made before it, and kept for its successor."""
    return HeadAddress(calls, network).card(machine, place, public=head.public)


def _is_heads(row: Mapping[str, Any], uid: str) -> bool:
    tags, state = tags_in(row), str((row.get("properties") or {}).get("provisioningState") or "").lower()
    return tags.get(TAG_DISK) == "head" and tags.get("clusterctl-uid") == uid and state not in ("deleting", "failed")


def _age(row: Mapping[str, Any]) -> tuple[str, str]:
    return str((row.get("properties") or {}).get("timeCreated")), str(row["name"])


def _disk(row: Mapping[str, Any]) -> HeadDisk:
    """Named in small letters, as all that is known by its name here."""
    holder = str(row.get("managedBy") or "")
    zone = next(iter(row.get("zones") or ()), "")
    return HeadDisk(name_in(str(row["id"])), str(zone), PATHS, name_in(holder) if holder else "")
