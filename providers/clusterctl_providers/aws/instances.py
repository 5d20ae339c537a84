"""What DescribeInstances shows of a cluster, as instances that know which node they are (`cloud.listing.InstanceCalls`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from clusterctl.core.errors import BadRequest, NoCapacity, QuotaExceeded
from clusterctl.core.model import Instance, labels_of, launch_token
from clusterctl_providers.aws.calls import Calls
from clusterctl_providers.aws.reservations import market_of
from clusterctl_providers.base import TAG_CLUSTER, TAG_GENERATION, TAG_NODE, TAG_TOKEN, TAG_UID
from clusterctl_providers.cloud.batches import TAG_NODES, Batch, members_of_tag

PAGE = 1000
MOST_VALUES = 200  # that EC2 takes in a filter
_ALIVE = ["pending", "running", "stopping", "stopped", "shutting-down"]
_OVER = ("shutting-down", "terminated")
_STATES: dict[str, Literal["pending", "running", "stopping", "stopped", "terminated"]] = {
    "pending": "pending",
    "running": "running",
    "stopping": "stopping",
    "stopped": "stopped",
    "shutting-down": "stopping",
    "terminated": "terminated",
}


# ends that somebody wanted, the machine itself among them: no fault of the launch
_WANTED = ("Client.UserInitiated", "Client.InstanceInitiated", "Client.InstanceTerminated")
_RECLAIMED = frozenset({"Server.SpotInstanceTermination", "Server.SpotInstanceShutdown"})
_KEY = "; most often the KMS key of its disk may not be used by who launches: see docs/aws.md"
_KEY_REASONS = ("Client.InternalError", "Client.InvalidKMSKey")


class InstanceRows:
    """Reads instances by our tags, or by their ids."""

    def __init__(self, calls: Calls, uid: str) -> None:
        self._calls, self._uid = calls, uid

    def alive(self) -> Iterator[Instance]:
        return self._found([self._mine(), {"Name": "instance-state-name", "Values": _ALIVE}])

    def ours(self, instance_ids: Sequence[str]) -> Iterator[Instance]:
        for some in _parts(instance_ids):
            yield from self._found([self._mine(), {"Name": "instance-id", "Values": some}])

    def any_of(self, instance_ids: Sequence[str]) -> Iterator[Instance]:
        for some in _parts(instance_ids):
            yield from self._found([{"Name": "instance-id", "Values": some}])

    def _found(self, filters: list[dict[str, Any]]) -> Iterator[Instance]:
        return (self.instance(row) for row in self._rows(filters))

    def by_client_token(self, batch: Batch) -> dict[str, Instance]:
        """Node token -> instance of the call that had this ClientToken, ended ones included."""
        filters = [self._mine(), {"Name": "client-token", "Values": [batch.token]}]
        found: dict[str, Instance] = {}
        for row in self._rows(filters):
            index = int(row.get("AmiLaunchIndex") or 0)
            if index < len(batch.members):
                found[batch.node_tokens[index]] = self.instance(row, batch.members[index])
        return found

    def instance(self, row: Mapping[str, Any], member: tuple[str, int] | None = None) -> Instance:
        """`member`: which node it is, where that is known though its tags do not show yet."""
        tags = {tag["Key"]: tag["Value"] for tag in row.get("Tags") or ()}
        node_id, generation = member or _member(tags, int(row.get("AmiLaunchIndex") or 0))
        token = launch_token(self._uid, node_id, generation) if node_id else ""
        tags.pop(TAG_NODES, None)
        if node_id:
            tags |= {TAG_NODE: node_id, TAG_GENERATION: str(generation), TAG_TOKEN: token}
        refused = refusal_of(_why(row)) if row["State"]["Name"] in _OVER else ""
        launched = row.get("LaunchTime")
        return Instance(
            id=row["InstanceId"],
            uid=tags.get(TAG_UID, self._uid if member else ""),
            node_id=node_id,
            generation=generation,
            state=_STATES[row["State"]["Name"]],
            address=str(row.get("PrivateIpAddress") or ""),
            zone=str((row.get("Placement") or {}).get("AvailabilityZone") or ""),
            instance_type=str(row.get("InstanceType") or ""),
            market=market_of(row),
            created=launched.timestamp() if launched else 0.0,
            token=token,
            detail=_words(row),
            tags=labels_of(tags),
            refused=refused,
            reclaimed=_why(row) in _RECLAIMED,
        )

    def clusters(self) -> list[tuple[str, str, int]]:
        """(cluster, uid, instances) of everything in this region that carries a uid."""
        filters = [{"Name": "tag-key", "Values": [TAG_UID]}, {"Name": "instance-state-name", "Values": _ALIVE}]
        counts: dict[tuple[str, str], int] = {}
        for row in self._rows(filters):
            tags = {tag["Key"]: tag["Value"] for tag in row.get("Tags") or ()}
            key = (tags.get(TAG_CLUSTER, ""), tags[TAG_UID])
            counts[key] = counts.get(key, 0) + 1
        return sorted((name, uid, count) for (name, uid), count in counts.items())

    def _rows(self, filters: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        what = f"listing the instances of cluster {self._uid[:8]} in {self._calls.region}"
        for page in self._calls.pages("ec2", "describe_instances", what, Filters=filters, MaxResults=PAGE):
            for reservation in page["Reservations"]:
                yield from reservation["Instances"]

    def _mine(self) -> dict[str, Any]:
        return {"Name": f"tag:{TAG_UID}", "Values": [self._uid]}


def _parts(ids: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), MOST_VALUES):
        yield list(ids[start : start + MOST_VALUES])


def refusal_of(reason: str) -> str:
    """Why an instance that was accepted never ran, by its StateReason: the code of the error that the launch would have been,
    "" where it is none."""
    side, _, rest = reason.partition(".")
    if side == "Server":
        return NoCapacity.code if rest == "InternalError" or rest.startswith("Insufficient") else ""
    if side != "Client" or reason.startswith(_WANTED):
        return ""
    return QuotaExceeded.code if rest.endswith("LimitExceeded") else BadRequest.code


def _why(row: Mapping[str, Any]) -> str:
    """AWS's code, which opens the text of a StateTransitionReason where there is no StateReason yet."""
    code = str((row.get("StateReason") or {}).get("Code") or "")
    first = str(row.get("StateTransitionReason") or "").partition(":")[0]
    return code or (first if first.startswith(("Client.", "Server.")) else "")


def _words(row: Mapping[str, Any]) -> str:
    """AWS's reason for the state, with ours where AWS's says little."""
    text = str((row.get("StateReason") or {}).get("Message") or row.get("StateTransitionReason") or _why(row))
    return text + _KEY if _why(row).startswith(_KEY_REASONS) else text


def _member(tags: Mapping[str, str], index: int) -> tuple[str, int]:
    """Which node an instance is: ("", 0) when its tags do not say."""
    if TAG_NODES in tags:
        members = members_of_tag(tags[TAG_NODES])
        return members[index] if index < len(members) else ("", 0)
    generation = tags.get(TAG_GENERATION, "")
    return tags.get(TAG_NODE, ""), int(generation) if generation.isdecimal() else 0
