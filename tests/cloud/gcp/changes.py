"""Changes to an instance that do not end it: labels, metadata, tags, disks that come and go, protection."""

from __future__ import annotations

from typing import Any

from tests.cloud.gcp.compute import Compute
from tests.cloud.gcp.disks import Disks
from tests.cloud.gcp.instances import Instances
from tests.cloud.gcp.launch import with_fingerprint
from tests.cloud.gcp.rules import check_labels, check_metadata
from tests.cloud.gcp.services import Call, Handler
from tests.cloud.gcp.store import check_fingerprint, fingerprint, key_of, key_of_link
from tests.cloud.gcp.world import PROJECT, Refusal, in_use, invalid, not_ready, required


class Changes:
    def __init__(self, compute: Compute, instances: Instances, disks: Disks) -> None:
        self._world, self._store, self._operations = compute.world, compute.store, compute.operations
        self._instances, self._disks = instances, disks

    def handlers(self) -> dict[str, Handler]:
        return {
            "compute.instances.setLabels": self._set_labels,
            "compute.instances.setMetadata": self._set_metadata,
            "compute.instances.setTags": self._set_tags,
            "compute.instances.setDeletionProtection": self._set_protection,
            "compute.instances.setDiskAutoDelete": self._set_auto_delete,
            "compute.instances.setServiceAccount": self._set_account,
            "compute.instances.attachDisk": self._attach,
            "compute.instances.detachDisk": self._detach,
        }

    def _set_labels(self, call: Call) -> dict[str, Any]:
        instance, labels = self._instances.named(call), call.body.get("labels", {})
        check_labels(labels, "labels")
        check_fingerprint(call.body.get("labelFingerprint"), instance.body["labelFingerprint"])
        instance.body.update(labels=labels, labelFingerprint=fingerprint(labels))
        return self._operations.begin(call, "setLabels", instance.key)

    def _set_metadata(self, call: Call) -> dict[str, Any]:
        """All of it is replaced: what is not sent is gone."""
        instance = self._instances.named(call)
        check_metadata(call.body, "metadata")
        check_fingerprint(call.body.get("fingerprint"), instance.body["metadata"]["fingerprint"], noun="metadata")
        instance.body["metadata"] = with_fingerprint(call.body, "items", "compute#metadata")
        return self._operations.begin(call, "setMetadata", instance.key)

    def _set_tags(self, call: Call) -> dict[str, Any]:
        instance = self._instances.named(call)
        check_fingerprint(call.body.get("fingerprint"), instance.body["tags"]["fingerprint"], noun="tags")
        instance.body["tags"] = with_fingerprint(call.body, "items")
        return self._operations.begin(call, "setTags", instance.key)

    def _set_protection(self, call: Call) -> dict[str, Any]:
        instance = self._instances.named(call)
        instance.body["deletionProtection"] = call.query.get("deletionProtection", True)
        return self._operations.begin(call, "setDeletionProtection", instance.key)

    def _set_auto_delete(self, call: Call) -> dict[str, Any]:
        instance = self._instances.named(call)
        self._attached(instance.body["disks"], call)["autoDelete"] = call.query["autoDelete"]
        return self._operations.begin(call, "setDiskAutoDelete", instance.key)

    def _set_account(self, call: Call) -> dict[str, Any]:
        instance = self._instances.named(call)
        if instance.status != "TERMINATED":
            raise Refusal(400, "invalid", "The instance must be stopped before the service account can be changed.")
        email = call.body.get("email")
        if email:
            call.need("iam.serviceAccounts.actAs", f"projects/{PROJECT}/serviceAccounts/{email}")
        instance.body["serviceAccounts"] = [{"email": email, "scopes": call.body.get("scopes", [])}] if email else []
        return self._operations.begin(call, "setServiceAccount", instance.key)

    def _attached(self, disks: list[dict[str, Any]], call: Call) -> dict[str, Any]:
        name = call.query["deviceName"]
        for disk in disks:
            if disk["deviceName"] == name:
                return disk
        raise invalid("deviceName", name, "No attached disk found with this device name.")

    # ------------------------------------------------------------ disks

    def _attach(self, call: Call) -> dict[str, Any]:
        instance, wanted = self._instances.named(call), call.body
        if "source" not in wanted:
            raise required("resource.source")
        if instance.status not in ("RUNNING", "TERMINATED"):
            raise not_ready(instance.key)
        key = key_of(wanted["source"], PROJECT, "resource.source")
        if f"/zones/{instance.zone}/disks/" not in key:
            raise invalid("resource.source", wanted["source"], f"The disk must be in zone '{instance.zone}'.")
        disk = self._store.get(key)
        mode = wanted.get("mode", "READ_WRITE")
        call.need("compute.disks.use" if mode == "READ_WRITE" else "compute.disks.useReadOnly", key)
        if disk["status"] != "READY":
            raise not_ready(key)
        if disk.get("users") and mode == "READ_WRITE":
            raise in_use(key, key_of_link(disk["users"][0]))
        disks: list[dict[str, Any]] = instance.body["disks"]
        number = max(d["index"] for d in disks) + 1
        name = wanted.get("deviceName", f"persistent-disk-{number}")
        if any(d["deviceName"] == name for d in disks):
            raise invalid("resource.deviceName", name, "The device name is in use by another disk of the instance.")
        made = {
            "kind": "compute#attachedDisk", "index": number, "type": "PERSISTENT", "mode": mode, "boot": False,
            "autoDelete": wanted.get("autoDelete", False), "interface": "SCSI", "deviceName": name,
            "source": disk["selfLink"], "diskSizeGb": disk["sizeGb"],
        }  # fmt: skip
        self._disks.hold(key, instance.key)
        disks.append(made)

        def finish() -> None:
            if self._world.disks and instance.status == "RUNNING":
                self._instances.plug_in(instance, made)

        def undo() -> None:
            disks.remove(made)
            self._disks.release(key, instance.key)

        seconds = max(self._world.operation_seconds, self._world.volume_seconds)
        return self._operations.begin(call, "attachDisk", instance.key, finish, seconds, undo)

    def _detach(self, call: Call) -> dict[str, Any]:
        instance = self._instances.named(call)
        disk = self._attached(instance.body["disks"], call)
        if disk["boot"] and instance.status != "TERMINATED":
            raise Refusal(400, "invalid", "Cannot detach the boot disk of an instance that is not stopped.")
        if "source" not in disk:
            raise invalid("deviceName", disk["deviceName"], "Local SSDs cannot be detached.")
        key = key_of_link(disk["source"])
        call.need("compute.disks.use", key)

        def finish() -> None:
            self._instances.pull_out(instance, [disk])
            instance.body["disks"] = [d for d in instance.body["disks"] if d is not disk]
            self._disks.release(key, instance.key)

        seconds = max(self._world.operation_seconds, self._world.volume_seconds)
        return self._operations.begin(call, "detachDisk", instance.key, finish, seconds)
