"""Rules of Compute Engine that its Discovery document does not have: labels, metadata, scheduling, accelerators, local SSDs."""

from __future__ import annotations

import re
from typing import Any

from tests.cloud.gcp.facts import ATTACHABLE, MachineType
from tests.cloud.gcp.store import Resource
from tests.cloud.gcp.world import PROJECT, Refusal, World, invalid

_LABEL_KEY = re.compile(r"[a-z\u00df-\uffff][a-z0-9_\-\u00df-\uffff]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_\-\u00df-\uffff]{0,63}")
_METADATA_KEY = re.compile(r"[a-zA-Z0-9\-_]{1,128}")


def check_labels(labels: dict[str, str], where: str) -> None:
    if len(labels) > 64:
        raise invalid(where, "", "Labels must have at most 64 entries.")
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key):
            raise invalid(
                where, key, "Label keys must start with a lowercase character, can only contain lowercase letters, numeric "
                "characters, underscores and dashes. The key can be at most 63 characters long."
            )  # fmt: skip
        if not _LABEL_VALUE.fullmatch(value):
            raise invalid(
                where, value, "Label values can only contain lowercase letters, numeric characters, underscores and dashes. "
                "The value can be at most 63 characters long."
            )  # fmt: skip


def check_metadata(metadata: Resource, where: str) -> None:
    seen: set[str] = set()
    size = 0
    for item in metadata.get("items", []):
        key, value = item.get("key", ""), item.get("value", "")
        if not _METADATA_KEY.fullmatch(key):
            raise invalid(f"{where}.items.key", key, "Must be a match of regex '[a-zA-Z0-9-_]{1,128}'")
        if key in seen:
            raise invalid(where, key, f"Metadata has duplicate key: {key}")
        if len(value.encode()) > 256 * 1024:
            raise invalid(f"{where}.items.value", value, "The value is too large: 262144 bytes are allowed.")
        if key == "enable-oslogin" and value.lower() not in ("true", "false", ""):
            raise invalid(f"{where}.items.value", value, "The value must be true or false.")
        seen.add(key)
        size += len(value.encode())
    if size > 512 * 1024:
        raise invalid(where, "", "Metadata is too large: 524288 bytes are allowed in all.")


def check_scheduling(wanted: Resource, machine: MachineType, accelerators: dict[str, int], where: str) -> Resource:
    """With Google's defaults."""
    where = f"{where}.scheduling"
    model = wanted.get("provisioningModel", "SPOT" if wanted.get("preemptible") else "STANDARD")
    if wanted.get("preemptible") and model not in ("SPOT", "STANDARD"):
        raise Refusal(400, "invalid", f"Preemptible instances cannot have provisioning model {model}.")
    gone_soon = model in ("SPOT", "FLEX_START")
    found = {
        "onHostMaintenance": "TERMINATE" if gone_soon else "MIGRATE", "automaticRestart": not gone_soon,
        "provisioningModel": model, "preemptible": model == "SPOT", **wanted,
    }  # fmt: skip
    if model == "SPOT" and found["automaticRestart"]:
        raise Refusal(400, "badRequest", "Scheduling must have automaticRestart be false when preemptible is true.")
    if model == "SPOT" and found["onHostMaintenance"] == "MIGRATE":
        raise Refusal(
            400, "badRequest", "Scheduling must have onHostMaintenance be TERMINATE when preemptible is true."
        )
    if (machine.accelerator or accelerators) and found["onHostMaintenance"] != "TERMINATE":
        raise Refusal(400, "badRequest", "Instances with guest accelerators do not support live migration.")
    action, lasts = found.get("instanceTerminationAction"), found.get("maxRunDuration") or found.get("terminationTime")
    if action and not (model in ("SPOT", "FLEX_START", "RESERVATION_BOUND") or lasts):
        message = "instanceTerminationAction is only supported for Spot VMs and VMs with a limited run time."
        raise invalid(f"{where}.instanceTerminationAction", action, message)
    if lasts and not action:
        raise invalid(
            f"{where}.instanceTerminationAction", "", "It must be specified for a VM with a limited run time."
        )
    if found.get("maxRunDuration"):
        _check_duration(found["maxRunDuration"], f"{where}.maxRunDuration", model)
    if model == "FLEX_START" and not lasts:
        raise invalid(f"{where}.maxRunDuration", "", "FLEX_START VMs must have maxRunDuration or terminationTime.")
    if model == "FLEX_START" and not (machine.accelerator or accelerators or machine.family == "h4d"):
        raise Refusal(
            400, "badRequest", f"Machine type {machine.name} is not supported with the FLEX_START provisioning model."
        )
    return found


def patience(params: Resource, model: str, where: str) -> float:
    """Seconds for which a flex-start instance waits for capacity; raises Refusal."""
    if "requestValidForDuration" not in params:
        return 0.0
    seconds = int(params["requestValidForDuration"].get("seconds", 0))
    if model != "FLEX_START":
        raise invalid(
            f"{where}.requestValidForDuration", str(seconds), "It is only supported for FLEX_START instances."
        )
    if seconds and not 90 <= seconds <= 7200:
        raise invalid(f"{where}.requestValidForDuration", str(seconds), "It must be 0, or 90 seconds to 2 hours.")
    return float(seconds)


def _check_duration(duration: Resource, where: str, model: str) -> None:
    seconds = int(duration.get("seconds", 0))
    most = 7 * 86400 if model == "FLEX_START" else 120 * 86400
    if not (600 if model == "FLEX_START" else 30) <= seconds <= most:
        raise invalid(where, str(seconds), f"The duration must be at most {most} seconds and not too short.")


def check_devices(machine: MachineType, accelerators: dict[str, int], body: Resource, where: str) -> None:
    """Which accelerators and local SSDs go with which machine type."""
    for name, count in accelerators.items():
        if machine.accelerator:
            if (name, count) != (machine.accelerator, machine.accelerators):
                message = f"[{machine.name}, {name}] features are not compatible for creating instance."
                raise Refusal(400, "badRequest", message)
        elif name not in ATTACHABLE or machine.family != "n1":
            message = f"[{machine.name}, {name}] features are not compatible for creating instance."
            raise Refusal(400, "badRequest", message)
        elif count not in ATTACHABLE[name][0]:
            raise invalid(
                f"{where}.guestAccelerators[0].acceleratorCount", str(count),
                f"The number of GPU cards attached to the instance must be one of [{', '.join(map(str, ATTACHABLE[name][0]))}].",
            )  # fmt: skip
    scratch = sum(disk.get("type") == "SCRATCH" for disk in body.get("disks", []))
    if scratch and (
        (machine.local_ssds and not machine.name.startswith(("a2-ultragpu",)))
        or machine.shared
        or machine.family in ("e2", "t2d", "t2a")
    ):
        raise Refusal(
            400, "badRequest", f"[{machine.name}, LOCAL_SSD] features are not compatible for creating instance."
        )
    if scratch not in (*range(9), 16, 24, 32):
        message = (
            f"Number of local SSDs for an instance of type {machine.name} should be one of [0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 24], "
            f"while [{scratch}] is requested."
        )
        raise Refusal(400, "badRequest", message)


_POLICIES: dict[str, Any] = {
    "constraints/compute.vmExternalIpAccess": lambda body: any(
        i.get("accessConfigs") for i in body["networkInterfaces"]
    ),
    "constraints/compute.requireShieldedVm": lambda body: (
        not body.get("shieldedInstanceConfig", {}).get("enableSecureBoot")
    ),
    "constraints/compute.requireOsLogin": lambda body: any(
        item["key"] == "enable-oslogin" and item.get("value", "").lower() == "false"
        for item in body.get("metadata", {}).get("items", [])
    ),
    "constraints/compute.disableSerialPortLogging": lambda body: any(
        item["key"] == "serial-port-logging-enable" and item.get("value", "").lower() in ("true", "1")
        for item in body.get("metadata", {}).get("items", [])
    ),
}


def check_policies(world: World, body: Resource) -> None:
    """Organisation policies that the world has; raises Refusal in Google's words."""
    for constraint in world.refused_policies:
        if _POLICIES[constraint](body):
            message = (
                f"Constraint {constraint} violated for project {PROJECT}. {world.refused_policies[constraint]}".rstrip()
            )
            raise Refusal(412, "conditionNotMet", message)
