"""The calls of a build on Compute Engine (`cloud.image_build.BuildCalls`).

The serial port can be read of a running machine only. So the machine stays on for a while after its last word, whoever asks for
its state listens to it, and that it was done is written down on the machine itself, for a build that goes on with it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from clusterctl.core.errors import BadRequest, ProviderError, UnknownOutcome
from clusterctl_providers.base import TAG_UID
from clusterctl_providers.catalog import InstanceType
from clusterctl_providers.cloud.image_build import SAID, BuildMachine
from clusterctl_providers.cloud.image_store import TAG_IMAGE
from clusterctl_providers.gcp.calls import Calls, last_part, relative
from clusterctl_providers.gcp.errors import is_missing, is_taken
from clusterctl_providers.gcp.head import console_log, request_id
from clusterctl_providers.gcp.images.lookup import Image
from clusterctl_providers.gcp.images.store import state_of
from clusterctl_providers.gcp.machines.body import Wish, instance_of, properties
from clusterctl_providers.gcp.network.network import LONGEST_NAME, Network

log = logging.getLogger(__name__)

BUILDERS = {"x86_64": "e2-standard-2", "arm64": "c4a-standard-2"}  # no GPU is needed: its driver is in the base image
HEARD = "clusterctl-heard"  # a label of the machine: "done" once its word was heard
LINGER = 45.0  # seconds; a state is asked for every ten at least
_STATES = {
    "PROVISIONING": "pending",
    "STAGING": "pending",
    "RUNNING": "running",
    "REPAIRING": "running",
    "PENDING_STOP": "stopping",
    "STOPPING": "stopping",
    "TERMINATED": "stopped",  # it turned itself off, and is there
}


class GceBuild:
    """`base` is the image that the machine starts from; `public`: whether the machine gets a public address, as nodes do."""

    linger = LINGER

    def __init__(self, calls: Calls, network: Network, base: Image, uid: str, *, public: bool) -> None:
        self._calls, self._network, self._base, self._uid, self._public = calls, network, base, uid, public
        self._heard: str | None = None

    @property
    def region(self) -> str:
        return self._calls.region

    def image(self, content: str) -> str:
        row = self._image_row(content)
        return relative(str(row["selfLink"])) if row else ""

    def _image_row(self, content: str) -> dict[str, Any] | None:
        what = f"looking for an image of this content in {self._calls.project}"
        for page in self._calls.pages("global/images", what, filter=f"labels.{TAG_IMAGE}={content}"):
            for row in page.get("items") or ():
                if state_of(row) in ("available", "pending"):
                    return row
        return None

    def machine(self) -> str:
        what = "looking for the machine of the build"
        for page in self._calls.pages("aggregated/instances", what, filter=f"labels.{TAG_UID}={self._uid}"):
            for scoped in (page.get("items") or {}).values():
                for row in scoped.get("instances") or ():
                    return f"{last_part(str(row['zone']))}/{row['name']}"
        return ""

    def zones(self) -> list[str]:
        return self._network.zones()

    def launch(self, machine: BuildMachine, zone: str, token: str) -> str:
        name, what = (
            self._network.part("build"),
            f"launching a machine to make an image of {machine.base} ({machine.type} in {zone})",
        )
        body = instance_of(
            self._properties(machine), name, zone, f"projects/{self._calls.project}/regions/{self.region}"
        )
        path = f"zones/{zone}/instances"
        try:
            # repeated when the answer is lost: the token makes it one instance
            self._calls.wait(self._calls.ask("POST", path, what, body, requestId=request_id(token)), what)
        except ProviderError as error:
            if not is_taken(error):
                raise
            found = self._calls.get(f"{path}/{name}", f"looking at {name}")
            self._network.owner().check(found, f"an instance {name}")
        return f"{zone}/{name}"

    def _properties(self, machine: BuildMachine) -> dict[str, Any]:
        """No service account, no key and no network tag: nobody gets in, and it may do nothing."""
        kind = InstanceType("gcp", machine.type, self._base.arch, 2, 8.0, "", "", 0.0, 0.0, "", "")
        return properties(
            Wish(
                machine=kind,
                image=self._base,
                market="on-demand",
                interface=self._network.interface(public=self._public),
                disk=machine.disk,
                labels=self._network.labels(**{TAG_IMAGE: machine.content}),
                metadata={"startup-script": machine.user_data},
            )
        )

    def state(self, machine: str) -> str:
        row = self._row(machine)
        if row is None:
            return "terminated"
        word = str(row.get("status"))
        if word in ("RUNNING", "STOPPING"):
            self._listen(machine, row)
        return _STATES.get(word, word.lower())

    def _row(self, machine: str) -> dict[str, Any] | None:
        zone, _, name = machine.partition("/")
        try:
            return self._calls.get(f"zones/{zone}/instances/{name}", f"asking for the state of {machine}")
        except ProviderError as error:
            if is_missing(error):
                return None
            raise

    def _listen(self, machine: str, row: Mapping[str, Any]) -> None:
        try:
            said = console_log(self._calls, machine)
            if SAID.search(said):
                self._heard = said
                self._note(machine, row, said)
        except UnknownOutcome as error:
            log.info("%s; it is asked again with the next look", error)

    def _note(self, machine: str, row: Mapping[str, Any], said: str) -> None:
        labels = row.get("labels") or {}
        if HEARD not in labels and f"done {labels.get(TAG_IMAGE)}" in said:
            zone, _, name = machine.partition("/")
            body = {"labels": {**labels, HEARD: "done"}, "labelFingerprint": row["labelFingerprint"]}
            self._calls.run("POST", f"zones/{zone}/instances/{name}/setLabels", f"noting that {machine} is done", body)

    def console(self, machine: str) -> str | None:
        row = self._row(machine)
        if self._heard is None and row is not None:
            self._listen(machine, row)
            if (row.get("labels") or {}).get(HEARD) == "done":
                return f"clusterctl-image: done {row['labels'][TAG_IMAGE]}"
        return self._heard

    def image_name(self, wanted: str) -> str:
        return re.sub(r"[^a-z0-9-]", "-", wanted.lower())[:LONGEST_NAME].rstrip("-")

    def create(self, machine: str, name: str, content: str) -> str:
        what, row = f"making the image {name} of {machine}", self._row(machine)
        if row is None:
            raise BadRequest(f"{what}: the machine is gone; build again")
        body = {
            "name": name,
            "sourceDisk": _boot_disk(row),
            "labels": {TAG_IMAGE: content},
            "description": f"made by clusterctl of {machine}",
        }
        try:
            self._calls.ask("POST", "global/images", what, body, requestId=request_id(f"{self._uid}/{content}"))
        except ProviderError as error:
            found = self.image(content)  # a lost answer, or another build of the same
            if not found or not is_taken(error):
                raise
            return found
        return f"projects/{self._calls.project}/global/images/{name}"

    def image_state(self, image: str) -> str:
        try:
            return state_of(self._calls.get(image, f"waiting for the image {image}"))
        except ProviderError as error:
            if is_missing(error):
                return "gone"
            raise

    def end(self, machine: str) -> None:
        """Its disk goes along with it."""
        zone, _, name = machine.partition("/")
        try:
            self._calls.wait(
                self._calls.ask("DELETE", f"zones/{zone}/instances/{name}", f"ending {machine}"), f"ending {machine}"
            )
        except ProviderError as error:
            if not is_missing(error):
                raise

    def sweep(self) -> list[str]:
        return self._network.sweep()


def _boot_disk(row: Mapping[str, Any]) -> str:
    return next(relative(str(disk["source"])) for disk in row["disks"] if disk.get("boot"))
