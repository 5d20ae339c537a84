"""What Compute Engine shows of a cluster, as instances that know which node they are (`cloud.listing.InstanceCalls`).

A list of all zones fails, or is not whole, when a zone at the other end of the world does not answer: those of the cluster's
region are asked one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from clusterctl.core.errors import AuthFailed, BadRequest, ProviderError
from clusterctl.core.model import Instance, labels_of, launch_token
from clusterctl_providers.base import TAG_CLUSTER, TAG_GENERATION, TAG_NODE, TAG_TOKEN, TAG_UID
from clusterctl_providers.gcp.calls import Calls, last_part
from clusterctl_providers.gcp.errors import is_missing
from clusterctl_providers.gcp.machines.accelerators import type_of
from clusterctl_providers.gcp.machines.ends import End, Ends
from clusterctl_providers.gcp.market.reservations import FLEX_START, market_of
from clusterctl_providers.gcp.names import TAG_LAUNCH, id_of, is_id, member_in, member_of, tags_in, zone_and_name

PAGE = 500
# Everything of an instance but its metadata: the startup script would be most of what a look at a large cluster transfers.
_SHOWN = (
    "name,zone,status,statusMessage,labels,machineType,creationTimestamp,scheduling/provisioningModel,reservationAffinity,"
    "guestAccelerators,networkInterfaces/networkIP"
)
State = Literal["pending", "running", "stopping", "stopped", "terminated"]
# What has turned itself off, or was stopped, Compute Engine calls terminated: it is there, and its disk costs.
_STATES: dict[str, State] = {
    "PENDING": "pending",
    "PROVISIONING": "pending",
    "STAGING": "pending",
    "RUNNING": "running",
    "REPAIRING": "running",
    "PENDING_STOP": "stopping",
    "STOPPING": "stopping",
    "SUSPENDING": "stopping",
    "DEPROVISIONING": "stopping",
    "SUSPENDED": "stopped",
    "STOPPED": "stopped",
    "TERMINATED": "stopped",
}
_WORDS = {
    "PENDING": "it waits until Google has the capacity for it (flex-start)",
    "REPAIRING": "Google repairs it",
    "SUSPENDING": "it is being suspended",
    "SUSPENDED": "it was suspended",
}


class InstanceRows:
    """Reads instances by our labels, or by their ids. `zones`: those of the region."""

    def __init__(self, calls: Calls, cluster: str, uid: str, zones: Callable[[], Sequence[str]]) -> None:
        self._calls, self._cluster, self._uid, self._zones = calls, cluster, uid, zones
        self._ends = Ends(calls)

    def alive(self) -> Iterator[Instance]:
        return self._found(f"labels.{TAG_UID}={self._uid}")

    def ours(self, instance_ids: Sequence[str]) -> Iterator[Instance]:
        return (instance for instance in self.any_of(instance_ids) if instance.uid == self._uid)

    def any_of(self, instance_ids: Sequence[str]) -> Iterator[Instance]:
        """Each is asked for; those that are gone with how they came to their end, where that is known."""
        gone: list[str] = []
        for instance_id in filter(is_id, dict.fromkeys(instance_ids)):
            row = self.find(instance_id)
            if row is None:
                gone.append(instance_id)
            else:
                yield self.instance(row)
        for instance_id, end in self._ends.of(gone).items():
            yield self._ended(instance_id, end)

    def find(self, instance_id: str) -> dict[str, Any] | None:
        """The row of one; None where it is not there (any more)."""
        zone, name = zone_and_name(instance_id)
        try:
            return self._calls.get(f"zones/{zone}/instances/{name}", f"looking up {instance_id}", fields=_SHOWN)
        except BadRequest as error:
            if is_missing(error):
                return None
            raise

    def of_launch(self, zone: str, launch: str) -> dict[str, Instance]:
        """By name, those in the zone that came from this call."""
        rows = self._rows(zone, f"labels.{TAG_LAUNCH}={launch}")
        return {str(row["name"]): self.instance(row) for row in rows}

    def named(self, names: Iterable[str]) -> dict[str, Instance]:
        """By name, those of the cluster's that are there."""
        wanted = set(names)
        found = ((zone_and_name(instance.id)[1], instance) for instance in self.alive())
        return {name: instance for name, instance in found if name in wanted}

    def clusters(self) -> list[tuple[str, str, int]]:
        """(cluster, uid, instances) of everything in this region that carries a uid."""
        counts: dict[tuple[str, str], int] = {}
        for instance in self._found(f"labels.{TAG_UID}:*"):
            key = (dict(instance.tags).get(TAG_CLUSTER, ""), instance.uid)
            counts[key] = counts.get(key, 0) + 1
        return sorted((name, uid, count) for (name, uid), count in counts.items())

    # ------------------------------------------------------------ reading

    def _found(self, wanted: str) -> Iterator[Instance]:
        """Zone by zone; one that does not answer is told of after the others."""
        failed: ProviderError | None = None
        for zone in self._zones():
            try:
                yield from map(self.instance, self._rows(zone, wanted))
            except AuthFailed:
                raise  # the others would say the same
            except ProviderError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def _rows(self, zone: str, wanted: str) -> Iterator[dict[str, Any]]:
        what = f"listing the instances of cluster {self._uid[:8]} in {zone}"
        fields = f"nextPageToken,warning,items({_SHOWN})"
        for page in self._calls.pages(f"zones/{zone}/instances", what, filter=wanted, maxResults=PAGE, fields=fields):
            rows = page.get("items") or []
            self._ends.of(_id(row) for row in rows if _is_ending(row))
            yield from rows

    def instance(self, row: Mapping[str, Any]) -> Instance:
        tags = tags_in(row.get("labels") or {})
        tags.pop(TAG_LAUNCH, None)
        uid, status, market = tags.get(TAG_UID, ""), str(row["status"]), market_of(row)
        node_id, generation = member_of(str(row["name"]), tags)
        token = launch_token(uid, node_id, generation) if node_id and uid == self._uid else ""
        if node_id:
            tags |= {TAG_NODE: node_id, TAG_GENERATION: str(generation), TAG_TOKEN: token}
        shown = Instance(
            id=_id(row),
            uid=uid,
            node_id=node_id,
            generation=generation,
            state=_STATES.get(status, "pending"),
            address=str(next(iter(row.get("networkInterfaces") or ({},))).get("networkIP") or ""),
            zone=last_part(str(row["zone"])),
            instance_type=_type(row),
            market=market,
            created=_seconds(str(row.get("creationTimestamp") or "")),
            token=token,
            detail=str(row.get("statusMessage") or _WORDS.get(status, "")),
            tags=labels_of(tags),
            queued=market == FLEX_START and _STATES.get(status, "pending") in ("pending", "running"),
        )
        end = self._ends.known(shown.id) if _is_ending(row) else None
        if end is None:
            return shown
        if end.reclaimed and status == "STOPPING":
            # It works on for the half minute that Google leaves it: its agent has heard of that as well, and its node drains.
            return replace(shown, state="running", detail=end.words)
        return replace(shown, detail=end.words, reclaimed=end.reclaimed)

    def _ended(self, instance_id: str, end: End) -> Instance:
        """One that is gone; its name says whose it was."""
        zone, name = zone_and_name(instance_id)
        node_id, generation = member_in(name, self._cluster, self._uid)
        return Instance(
            id=instance_id,
            uid=self._uid if node_id else "",
            node_id=node_id,
            generation=generation,
            state="terminated",
            zone=zone,
            token=launch_token(self._uid, node_id, generation) if node_id else "",
            detail=end.words,
            refused=end.refused,
            reclaimed=end.reclaimed,
        )


def _id(row: Mapping[str, Any]) -> str:
    return id_of(last_part(str(row["zone"])), str(row["name"]))


def _is_ending(row: Mapping[str, Any]) -> bool:
    return _STATES.get(str(row["status"])) in ("stopping", "stopped")


def _type(row: Mapping[str, Any]) -> str:
    devices = row.get("guestAccelerators") or [{}]
    device, count = str(devices[0].get("acceleratorType") or ""), int(devices[0].get("acceleratorCount") or 0)
    return type_of(last_part(str(row["machineType"])), last_part(device), count)


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp() if at else 0.0
