"""Managed disks: those of their own, and those that machines are made with."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from tests.cloud.azure.services import Behaviour, Call, Services
from tests.cloud.azure.store import Resource, Store
from tests.cloud.azure.world import Refusal, World, invalid

DISK = "Microsoft.Compute/disks"
_GIB = 1024**3
_NEEDS = {"Copy": "sourceResourceId", "Restore": "sourceResourceId", "FromImage": "imageReference"}


class Disks(Behaviour):
    def __init__(self, world: World, store: Store, services: Services) -> None:
        self._world, self._store = world, store
        services.behave(DISK, self)

    # ------------------------------------------------------------ of their own

    def check(self, call: Call, resource: Resource, before: Resource | None) -> None:
        properties = resource["properties"]
        creation, name = properties["creationData"], resource.setdefault("sku", {}).setdefault("name", "Standard_LRS")
        option = creation["createOption"]
        if option == "Empty" and not properties.get("diskSizeGB"):
            raise invalid("disk.diskSizeGB", "Required parameter 'disk.diskSizeGB' is missing (null).")
        if (needed := _NEEDS.get(option)) and not creation.get(needed) and not creation.get("galleryImageReference"):
            raise invalid(
                f"disk.creationData.{needed}", f"Required parameter 'disk.creationData.{needed}' is missing (null)."
            )
        if option == "Copy":
            source = self._store.find(creation["sourceResourceId"])
            if source is None:
                raise Refusal(404, "NotFound", f"Disk {creation['sourceResourceId']} is not found.")
            properties.setdefault("diskSizeGB", source["properties"]["diskSizeGB"])
        resource["sku"]["tier"] = name.partition("_")[0]
        if before:
            self._check_change(resource, before)
        self._fill(resource, before)

    def _check_change(self, resource: Resource, before: Resource) -> None:
        old, new = before["properties"], resource["properties"]
        new.setdefault("diskSizeGB", old["diskSizeGB"])
        if new["diskSizeGB"] < old["diskSizeGB"]:
            message = f"Disk size of disk {resource['name']} can not be decreased: it is {old['diskSizeGB']} GB."
            raise Refusal(409, "OperationNotAllowed", message)
        if before.get("zones") != resource.get("zones") or old["creationData"] != new["creationData"]:
            raise Refusal(
                409, "PropertyChangeNotAllowed", "Changing property 'disk.creationData' or 'zones' is not allowed."
            )

    def _fill(self, resource: Resource, before: Resource | None) -> None:
        properties = resource["properties"]
        if before:
            kept = ("uniqueId", "timeCreated", "diskState")
            properties.update({k: before["properties"][k] for k in kept})
            if before.get("managedBy"):
                resource["managedBy"] = before["managedBy"]
        else:
            properties.update(uniqueId=str(uuid.uuid4()), timeCreated=self._store.now(), diskState="Unattached")
        properties["diskSizeBytes"] = properties.get("diskSizeGB", 30) * _GIB
        properties.setdefault("networkAccessPolicy", "AllowAll")
        properties.setdefault("publicNetworkAccess", "Enabled")
        properties.setdefault("encryption", {"type": "EncryptionAtRestWithPlatformKey"})

    def seconds(self, resource: Resource, before: Resource | None) -> float | None:
        return max(self._world.operation_seconds, self._world.volume_seconds)

    def check_delete(self, call: Call | None, resource: Resource) -> None:
        if user := resource.get("managedBy"):
            message = f"Disk {resource['name']} is attached to VM {user}."
            raise Refusal(409, "OperationNotAllowed", message)

    def deleted(self, resource: Resource) -> None:
        if self._world.disks:
            self._world.disks.erase(resource["properties"]["uniqueId"])

    # ------------------------------------------------------------ of machines

    def make(
        self, machine: Resource, name: str, size: int, kind: str, creation: dict[str, Any], system: str = ""
    ) -> Resource:  # fmt: skip
        """One that a machine makes for itself: it has the place of the machine, and its tags as they are then. `size`:
        GiB."""
        group = machine["id"].partition("/providers/")[0]
        properties: dict[str, Any] = {"creationData": creation, "diskSizeGB": size, "provisioningState": "Succeeded"}
        if system:
            properties["osType"] = system
        resource: Resource = {
            "id": f"{group}/providers/{DISK}/{name}", "name": name, "type": DISK, "location": machine["location"],
            "tags": dict(machine.get("tags") or {}), "sku": {"name": kind, "tier": kind.partition("_")[0]},
            "properties": properties,
            **({"zones": machine["zones"]} if machine.get("zones") else {}),
        }  # fmt: skip
        self._fill(resource, None)
        self._store.put(resource)
        return resource

    def find_free(self, id_: str, machine: Resource) -> Resource:
        """One that is to be attached. Raises Refusal where it is not there, in another's hands, or in another zone."""
        found = self._store.find(id_)
        if found is None:
            raise Refusal(404, "NotFound", f"Disk {id_} is not found.")
        user = found.get("managedBy", "")
        if user and user.lower() != machine["id"].lower():
            message = (
                f"Cannot attach data disk '{found['name']}' to VM '{machine['name']}' because the disk is currently "
                f"being used by VM '{user}'."
            )
            raise Refusal(
                409, "AttachDiskWhileBeingDetached" if found.get("leaving") else "ConflictingUserInput", message
            )
        if found["location"] != machine["location"] or (found.get("zones") or []) != (machine.get("zones") or []):
            message = f"Disk {id_} cannot be attached to the VM because it is not in the same zone as the VM."
            raise Refusal(400, "BadRequest", message)
        return found

    def hold(self, id_: str, machine: str) -> Resource:
        disk = self._store.get(id_)
        disk["managedBy"] = machine
        disk["properties"]["diskState"] = "Attached"
        return disk

    def release(self, id_: str) -> None:
        disk = self._store.find(id_)
        if disk:
            disk.pop("managedBy", None)
            disk["properties"]["diskState"] = "Unattached"

    def view(self, resource: Resource, query: Mapping[str, str]) -> None:
        resource.pop("leaving", None)
