"""The calls of a build on Azure (`cloud.image_build.BuildCalls`).

A machine that turned itself off is there, and costs, until it is deallocated; of one that is generalized no machine can be
started any more. Its console outlives both, in boot diagnostics.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from clusterctl.core.errors import BadRequest, ProviderError
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.console import console_log
from clusterctl_providers.azure.errors import is_missing, is_taken
from clusterctl_providers.azure.images.gallery import Gallery, content_of, state_of
from clusterctl_providers.azure.images.lookup import Image
from clusterctl_providers.azure.machines.body import Wish, shared_body, vm_of
from clusterctl_providers.azure.machines.series import Size
from clusterctl_providers.azure.names import LONGEST
from clusterctl_providers.azure.network.network import Network
from clusterctl_providers.catalog import InstanceType
from clusterctl_providers.cloud.image_build import BuildMachine
from clusterctl_providers.cloud.image_store import TAG_IMAGE
from clusterctl_providers.cloud.naming import made_name

BUILDERS = {
    "x86_64": "Standard_D2s_v5",
    "arm64": "Standard_D2ps_v5",
}  # no GPU is needed: its driver is in the base image
USER = "ubuntu"  # of the builder, into which nobody gets; the image has it no more
LONGEST_NAME = 80  # of an image definition
_POWER = {
    "starting": "running",
    "running": "running",
    "stopping": "stopping",
    "stopped": "stopped",  # it turned itself off, and is there
    "deallocating": "stopped",
    "deallocated": "stopped",
}


class AzureBuild:
    """`base` is the image that the machine starts from; the network's uid is the build's."""

    linger = 0.0

    def __init__(self, calls: Calls, settings: Mapping[str, Any], network: Network, base: Image) -> None:
        self._calls, self._settings, self._network, self._base = calls, settings, network, base
        self._gallery = Gallery(calls)

    @property
    def region(self) -> str:
        return self._calls.region

    # ------------------------------------------------------------ the image

    def image(self, content: str) -> str:
        for definition in self._gallery.definitions():
            if content_of(definition) == content:
                for version in self._gallery.versions(str(definition["id"])):
                    if state_of(version) in ("available", "pending"):
                        return str(version["id"])
        return ""

    def image_name(self, wanted: str) -> str:
        return re.sub(r"[^A-Za-z0-9_.-]", "-", wanted)[:LONGEST_NAME].rstrip("-_.")

    def create(self, machine: str, name: str, content: str) -> str:
        """Each step may be made again."""
        path, what = self._path(machine), f"making the image {name} of {machine}"
        if self._row(machine) is None:
            raise BadRequest(f"{what}: the machine is gone; build again")
        self._calls.run("POST", f"{path}/deallocate", f"{what}: deallocating the machine")
        self._calls.run("POST", f"{path}/generalize", f"{what}: generalizing the machine")
        users = {key: str(value) for key, value in dict(self._settings.get("tags") or {}).items()}
        self._gallery.ensure(users)
        tags = {**users, TAG_IMAGE: content}
        self._calls.run("PUT", self._gallery.definition(name), f"{what}: its definition", self._definition(name, tags))
        version = self._gallery.version(name)
        try:
            self._calls.change("PUT", version, what, self._version(path, tags), {"If-None-Match": "*"})
        except ProviderError as error:
            if not is_taken(error) and not self.image(content):  # a lost answer, or another build of the same
                raise
        return version

    def _definition(self, name: str, tags: Mapping[str, str]) -> dict[str, Any]:
        """Machines of it can be what those of its base can be."""
        base = self._base
        features = []
        if base.trusted:
            features.append({"name": "SecurityType", "value": "TrustedLaunchSupported"})
        if "NVMe" in base.controllers:
            features.append({"name": "DiskControllerTypes", "value": "SCSI, NVMe"})
        properties: dict[str, Any] = {
            "osType": "Linux",
            "osState": "Generalized",
            "hyperVGeneration": base.generation,
            "architecture": "Arm64" if base.arch == "arm64" else "x64",
            "identifier": {"publisher": "clusterctl", "offer": "ray", "sku": name},
            "description": f"made by clusterctl of {base.id}",
            "features": features,
        }
        if base.plan:
            properties["purchasePlan"] = dict(base.plan)
        return {"location": self.region, "tags": dict(tags), "properties": properties}

    def _version(self, machine: str, tags: Mapping[str, str]) -> dict[str, Any]:
        target = {"name": self.region, "regionalReplicaCount": 1, "storageAccountType": "Standard_LRS"}
        return {
            "location": self.region,
            "tags": dict(tags),
            "properties": {
                "publishingProfile": {"targetRegions": [target]},
                "storageProfile": {"source": {"virtualMachineId": machine}},
            },
        }

    def image_state(self, image: str) -> str:
        try:
            return state_of(self._calls.get(image, f"waiting for the image {image}"))
        except ProviderError as error:
            if is_missing(error):
                return "gone"
            raise

    # ------------------------------------------------------------ the machine

    def _name(self) -> str:
        owner = self._network.group.owner()
        return made_name(owner.cluster, owner.uid, "build", longest=LONGEST).lower()

    def _path(self, machine: str) -> str:
        return self._network.group.path("Microsoft.Compute", "virtualMachines", machine)

    def machine(self) -> str:
        name = self._name()
        row = self._row(name)
        if row is None:
            return ""
        self._network.group.owner().check(row, f"a machine {name}")
        return name

    def zones(self) -> list[str]:
        return self._network.zones()

    def launch(self, machine: BuildMachine, zone: str, token: str) -> str:
        """Its name makes it one machine, whatever `token` is. One that failed to be made is removed: it may be had in another
        zone, and a machine stays in its own."""
        name = self._name()
        what = f"launching a machine to make an image of {machine.base} ({machine.type}{f' in zone {zone}' if zone else ''})"
        body = vm_of(shared_body(self._wish(machine, zone)), name, {TAG_IMAGE: machine.content}, machine.user_data)
        try:
            self._calls.run("PUT", self._path(name), what, body, {"If-None-Match": "*"})
        except ProviderError as error:
            if not is_taken(error):
                self._remove_failed(name)
                raise
            self.machine()
        return name

    def _wish(self, machine: BuildMachine, zone: str) -> Wish:
        """No identity, and a key whose other half is nowhere: nobody gets in, and it may do nothing."""
        public = Ed25519PrivateKey.generate().public_key()
        key = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
        arm = self._base.arch == "arm64"
        return Wish(
            machine=InstanceType("azure", machine.type, self._base.arch, 2, 8.0, "", "", 0.0, 0.0, "", ""),
            size=Size(machine.type, premium=True, accelerated=True, trusted=not arm, host_encrypted=True),
            image=self._base,
            region=self.region,
            zone=zone,
            market="on-demand",
            card=self._network.card(),
            user=USER,
            key=key,
            disk=machine.disk,
            disk_type=str(self._settings.get("disk_type") or ""),
            disk_encryption_set=self._network.group.setting(
                "disk_encryption_set", "Microsoft.Compute", "diskEncryptionSets"
            ),
            encryption_at_host=bool(self._settings.get("encryption_at_host")),
            trusted_launch=bool(self._settings.get("trusted_launch", True)),
            own_image=True,
            tags=self._network.tags(),
        )

    def _remove_failed(self, name: str) -> None:
        row = self._row(name)
        if row is not None and str((row.get("properties") or {}).get("provisioningState")) == "Failed":
            self.end(name)

    def state(self, machine: str) -> str:
        try:
            shown = self._calls.get(f"{self._path(machine)}/instanceView", f"asking how {machine} is")
        except ProviderError as error:
            if is_missing(error):
                return "terminated"
            raise
        codes = [str(status.get("code") or "").lower() for status in shown.get("statuses") or ()]
        if "provisioningstate/deleting" in codes:
            return "stopping"
        power = next((code.rpartition("/")[2] for code in codes if code.startswith("powerstate/")), "")
        return _POWER.get(power, power or "pending")

    def _row(self, machine: str) -> dict[str, Any] | None:
        try:
            return self._calls.get(self._path(machine), f"looking for the machine {machine}")
        except ProviderError as error:
            if is_missing(error):
                return None
            raise

    def console(self, machine: str) -> str | None:
        return console_log(self._calls, self._path(machine)) if self._row(machine) is not None else None

    def end(self, machine: str) -> None:
        """Its disk and its card go along with it."""
        try:
            self._calls.run("DELETE", self._path(machine), f"ending {machine}")
        except ProviderError as error:
            if not is_missing(error):
                raise

    def sweep(self) -> list[str]:
        return self._network.sweep() or self._network.remove_group()
