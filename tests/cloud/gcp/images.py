"""Images: the public ones of Google and Canonical, and the project's own, made of disks."""

from __future__ import annotations

from typing import Any

from tests.cloud.gcp.compute import Compute
from tests.cloud.gcp.facts import PUBLIC_IMAGES
from tests.cloud.gcp.lists import list_of
from tests.cloud.gcp.operations import key_of_call
from tests.cloud.gcp.services import Call, Handler
from tests.cloud.gcp.store import Resource, check_fingerprint, fingerprint, key_of, key_of_link
from tests.cloud.gcp.world import PROJECT, Failure, Refusal, in_use, invalid, not_found, not_ready, required


class Images:
    def __init__(self, compute: Compute) -> None:
        self._store, self._operations = compute.store, compute.operations
        for image in PUBLIC_IMAGES:
            self._store.add(f"projects/{image.project}/global/images/{image.name}", "image", {
                "family": image.family, "status": "READY", "diskSizeGb": str(image.gib), "sourceType": "RAW",
                "architecture": "ARM64" if image.arm else "X86_64", "archiveSizeBytes": str(image.gib << 29),
                "labelFingerprint": fingerprint({}),
                "guestOsFeatures": [{"type": t} for t in ("UEFI_COMPATIBLE", "GVNIC", "VIRTIO_SCSI_MULTIQUEUE")],
            })  # fmt: skip

    def handlers(self) -> dict[str, Handler]:
        return {
            "compute.images.get": lambda call: dict(self._store.get(key_of_call(call, "images", "image"))),
            "compute.images.getFromFamily": self._from_family,
            "compute.images.list": self._list,
            "compute.images.insert": self._insert,
            "compute.images.delete": self._delete,
            "compute.images.setLabels": self._set_labels,
        }

    def find(self, call: Call, link: str, where: str) -> Resource:
        """What a `sourceImage` names, a family too; raises Refusal."""
        key = key_of(link, PROJECT, where)
        project, _, rest = key.removeprefix("projects/").partition("/global/images/")
        if not rest:
            raise invalid(where, link, "The URL is malformed.")
        image = (
            self.newest(project, rest.removeprefix("family/")) if rest.startswith("family/") else self._store.find(key)
        )
        if image is None:
            raise not_found(key)
        if project == PROJECT:
            call.need("compute.images.useReadOnly", key)
        if image["status"] != "READY":
            raise not_ready(key)
        return image

    def newest(self, project: str, family: str) -> Resource | None:
        images = [i for i in self._store.collection(f"projects/{project}/global/images") if i.get("family") == family]
        alive = [i for i in images if "deprecated" not in i and i["status"] == "READY"]
        return alive[-1] if alive else None

    def _from_family(self, call: Call) -> dict[str, Any]:
        project, family = call.path["project"], call.path["family"]
        found = self.newest(project, family)
        if found is None:
            raise not_found(f"projects/{project}/global/images/family/{family}")
        return dict(found)

    def _list(self, call: Call) -> dict[str, Any]:
        key = f"projects/{call.path['project']}/global/images"
        return list_of(call, "image", key, self._store.collection(key))

    def _insert(self, call: Call) -> dict[str, Any]:
        body = dict(call.body)
        if not any(name in body for name in ("sourceDisk", "sourceImage", "sourceSnapshot", "rawDisk")):
            raise invalid("resource", "", "One of sourceDisk, sourceImage, sourceSnapshot or rawDisk must be set.")
        if "sourceDisk" not in body:
            raise Refusal(400, "invalid", "The stand-in makes images of disks only.")
        disk_key = key_of(body["sourceDisk"], PROJECT, "resource.sourceDisk")
        disk = self._store.get(disk_key)
        call.need("compute.disks.useReadOnly", disk_key)
        if body.get("labels"):
            call.need("compute.images.setLabels", f"projects/{PROJECT}/global/images/{body['name']}")
        running = [
            user for user in disk.get("users", []) if self._store.get(key_of_link(user))["status"] != "TERMINATED"
        ]
        if running and not call.query.get("forceCreate"):
            raise in_use(disk_key, key_of_link(running[0]))
        key = f"projects/{PROJECT}/global/images/{body['name']}"
        image = self._store.add(key, "image", {
            **body, "sourceDisk": disk["selfLink"], "sourceDiskId": disk["id"], "status": "PENDING", "sourceType": "RAW",
            "diskSizeGb": disk["sizeGb"], "archiveSizeBytes": "0", "architecture": disk.get("architecture", "X86_64"),
            "guestOsFeatures": disk.get("guestOsFeatures", []), "labelFingerprint": fingerprint(body.get("labels", {})),
        })  # fmt: skip

        def finish() -> None:
            if self._store.find(disk_key) is None:
                raise Failure("RESOURCE_NOT_FOUND", f"The resource '{disk_key}' was not found", 404, "NOT FOUND")
            image.update(status="READY", archiveSizeBytes=str(int(disk["sizeGb"]) << 28))

        return self._operations.begin(call, "insert", key, finish, undo=lambda: image.update(status="FAILED"))

    def _delete(self, call: Call) -> dict[str, Any]:
        key = key_of_call(call, "images", "image")
        self._store.get(key)
        return self._operations.begin(call, "delete", key, lambda: self._store.remove(key))

    def _set_labels(self, call: Call) -> dict[str, Any]:
        key = key_of_call(call, "images", "resource")
        image = self._store.get(key)
        if "labelFingerprint" not in call.body:
            raise required("resource.labelFingerprint")
        check_fingerprint(call.body["labelFingerprint"], image["labelFingerprint"])
        image.update(labels=call.body.get("labels", {}), labelFingerprint=fingerprint(call.body.get("labels", {})))
        return self._operations.begin(call, "setLabels", key)
