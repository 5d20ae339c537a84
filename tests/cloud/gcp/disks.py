"""Persistent disks: made with an instance or by themselves, in use by instances, grown, deleted."""

from __future__ import annotations

from typing import Any

from tests.cloud.gcp.compute import Compute, places
from tests.cloud.gcp.facts import BOOTABLE, DISK_TYPES, MachineType
from tests.cloud.gcp.images import Images
from tests.cloud.gcp.lists import aggregated, list_of
from tests.cloud.gcp.operations import key_of_call
from tests.cloud.gcp.services import Call, Handler
from tests.cloud.gcp.store import BASE, Resource, check_fingerprint, fingerprint, key_of, key_of_link, name_of
from tests.cloud.gcp.world import PROJECT, Refusal, in_use, invalid, required


class Disks:
    def __init__(self, compute: Compute, images: Images) -> None:
        self._compute, self._images = compute, images
        self._world, self._store, self._operations = compute.world, compute.store, compute.operations

    def handlers(self) -> dict[str, Handler]:
        return {
            "compute.disks.get": lambda call: dict(self._store.get(key_of_call(call, "disks", "disk"))),
            "compute.disks.list": self._list,
            "compute.disks.aggregatedList": lambda call: aggregated(
                call, "disk", "disks", self._store.scopes(PROJECT, "disks"), places()
            ),
            "compute.disks.insert": self._insert,
            "compute.disks.delete": self._delete,
            "compute.disks.resize": self._resize,
            "compute.disks.setLabels": self._set_labels,
        }

    # ------------------------------------------------------------ for instances

    def make(
        self,
        call: Call,
        key: str,
        wanted: dict[str, Any],
        source: Resource | None,
        where: str,
        machine: MachineType | None,
    ) -> Resource:
        """`wanted`: members of a Disk. Raises Refusal."""
        kind, size = self.planned(wanted, key.split("/")[3], source, where, machine)
        labels = wanted.get("labels", {})
        body = {
            **wanted, "type": f"{BASE}projects/{PROJECT}/zones/{key.split('/')[3]}/diskTypes/{kind}", "sizeGb": str(size),
            "status": "READY", "labelFingerprint": fingerprint(labels), "physicalBlockSizeBytes": "4096",
            "enableConfidentialCompute": False,
        }  # fmt: skip
        if kind.startswith("hyperdisk-balanced"):
            body.setdefault("provisionedIops", "3060")
            body.setdefault("provisionedThroughput", "155")
        if source:
            body |= {"sourceImage": source["selfLink"], "sourceImageId": source["id"], "architecture": source["architecture"],
                     "guestOsFeatures": source.get("guestOsFeatures", [])}  # fmt: skip
        return self._store.add(key, "disk", {k: v for k, v in body.items() if v not in (None, {})})

    def planned(
        self, wanted: dict[str, Any], zone: str, source: Resource | None, where: str, machine: MachineType | None
    ) -> tuple[str, int]:
        """(disk type, GiB) of a disk that may be made; raises Refusal."""
        kind = self.kind_of(wanted.get("type"), zone, f"{where}.diskType" if machine else f"{where}.type", machine)
        if machine and machine.hyperdisk_only and not kind.startswith("hyperdisk"):
            message = f"[{machine.name}, {kind}] features are not compatible for creating instance."
            raise Refusal(400, "badRequest", message)
        return kind, self._size(wanted.get("sizeGb"), kind, source, where)

    def kind_of(self, text: str | None, zone: str, where: str, machine: MachineType | None = None) -> str:
        """`pd-ssd` of a disk type's URL."""
        if not text:
            return machine.disk_type if machine else "pd-standard"
        key = key_of(text, PROJECT, where)
        name = name_of(key)
        if f"/zones/{zone}/diskTypes/" not in key or name not in DISK_TYPES:
            raise invalid(where, text, f"The referenced diskType resource cannot be found in zone '{zone}'.")
        return name

    def _size(self, text: str | None, kind: str, source: Resource | None, where: str) -> int:
        least = int(source["diskSizeGb"]) if source else 0
        if not text:
            return least or (500 if kind.startswith("pd-standard") else 100)
        size = int(text)
        if size < least:
            raise invalid(
                f"{where}.diskSizeGb", text, f"Requested disk size cannot be smaller than the image size ({least} GB)"
            )
        low, high = DISK_TYPES[kind]
        if not low <= size <= high:
            raise invalid(f"{where}.sizeGb", text, f"Disk size of {kind} must be between {low} and {high} GB.")
        return size

    def bootable(self, kind: str, where: str) -> None:
        if kind not in BOOTABLE:
            raise invalid(where, kind, "This disk type cannot be a boot disk.")

    def hold(self, key: str, instance: str) -> None:
        users = self._store.get(key).setdefault("users", [])
        if BASE + instance not in users:
            users.append(BASE + instance)
        self._store.get(key)["lastAttachTimestamp"] = self._store.now()

    def release(self, key: str, instance: str) -> None:
        found = self._store.find(key)
        if found and BASE + instance in found.get("users", []):
            found["users"].remove(BASE + instance)
            found["lastDetachTimestamp"] = self._store.now()

    def forget(self, key: str) -> None:
        """It is gone, and what was on it; raises NotYet while a machine still has it."""
        found = self._store.find(key)
        self._store.remove(key)
        if found and self._world.disks:
            self._world.disks.erase(found["id"])

    # ------------------------------------------------------------ methods

    def _list(self, call: Call) -> dict[str, Any]:
        key = f"projects/{PROJECT}/zones/{call.path['zone']}/disks"
        return list_of(call, "disk", key, self._store.collection(key))

    def _insert(self, call: Call) -> dict[str, Any]:
        body, zone = dict(call.body), call.path["zone"]
        key = f"projects/{PROJECT}/zones/{zone}/disks/{body['name']}"
        source = None
        link = body.get("sourceImage") or call.query.get("sourceImage")
        if link:
            source = self._images.find(call, link, "resource.sourceImage")
        elif "sizeGb" not in body:
            raise required("resource.sizeGb")
        if body.get("labels"):
            call.need("compute.disks.setLabels", key)
        disk = self.make(call, key, body, source, "resource", None)
        seconds = self._world.volume_seconds
        disk["status"] = "CREATING" if seconds else "READY"
        return self._operations.begin(
            call, "insert", key, lambda: disk.update(status="READY"), max(seconds, self._world.operation_seconds),
            undo=lambda: self.forget(key),
        )  # fmt: skip

    def _delete(self, call: Call) -> dict[str, Any]:
        key = key_of_call(call, "disks", "disk")
        users = self._store.get(key).get("users", [])
        if users:
            raise in_use(key, key_of_link(users[0]))
        return self._operations.begin(call, "delete", key, lambda: self.forget(key))

    def _resize(self, call: Call) -> dict[str, Any]:
        key = key_of_call(call, "disks", "disk")
        disk = self._store.get(key)
        if "sizeGb" not in call.body:
            raise required("resource.sizeGb")
        if int(call.body["sizeGb"]) <= int(disk["sizeGb"]):
            message = "Cannot be smaller than or equal to the current size."
            raise invalid("sizeGb", call.body["sizeGb"], message)
        return self._operations.begin(call, "resizeDisk", key, lambda: disk.update(sizeGb=call.body["sizeGb"]))

    def _set_labels(self, call: Call) -> dict[str, Any]:
        key = key_of_call(call, "disks", "resource")
        disk = self._store.get(key)
        check_fingerprint(call.body.get("labelFingerprint"), disk["labelFingerprint"])
        disk.update(labels=call.body.get("labels", {}), labelFingerprint=fingerprint(call.body.get("labels", {})))
        return self._operations.begin(call, "setLabels", key)
