"""What DescribeInstances shows of a cluster, as instances that know which node they are."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from clusterctl.core.errors import ProviderError
from clusterctl.core.model import Instance, Observed, labels_of, launch_token
from clusterctl_providers.aws_batches import TAG_NODES, Batch, members_of_tag
from clusterctl_providers.aws_calls import Calls
from clusterctl_providers.aws_reservations import market_of
from clusterctl_providers.base import TAG_CLUSTER, TAG_GENERATION, TAG_NODE, TAG_TOKEN, TAG_UID

PAGE = 1000
_ALIVE = ["pending", "running", "stopping", "stopped", "shutting-down"]
_STATES: dict[str, Literal["pending", "running", "stopping", "stopped", "terminated"]] = {
    "pending": "pending",
    "running": "running",
    "stopping": "stopping",
    "stopped": "stopped",
    "shutting-down": "stopping",
    "terminated": "terminated",
}


class Listing:
    """Reads instances by our tags. Remembers which ids it has shown or launched: those are ours to end."""

    def __init__(self, calls: Calls, uid: str) -> None:
        self._calls, self._uid = calls, uid
        self.ours: set[str] = set()

    def observe(self, scope: str) -> Observed:
        """One pass over all pages. What came before a page that failed is kept and said to be incomplete."""
        now = time.time()
        instances: list[Instance] = []
        filters = [self._mine(), {"Name": "instance-state-name", "Values": _ALIVE}]
        try:
            for row in self._rows(filters):
                instances.append(self.instance(row))
        except ProviderError as error:
            return Observed(scope, tuple(instances), False, now, str(error))
        self.ours |= {instance.id for instance in instances}
        return Observed(scope, tuple(instances), True, now)

    def by_client_token(self, batch: Batch) -> dict[str, Instance]:
        """Node token -> instance of the call that had this ClientToken, ended ones included."""
        filters = [self._mine(), {"Name": "client-token", "Values": [batch.token]}]
        found: dict[str, Instance] = {}
        for row in self._rows(filters):
            index = int(row.get("AmiLaunchIndex") or 0)
            if index < len(batch.members):
                found[batch.node_tokens[index]] = self.remember(row, *batch.members[index])
        return found

    def owned(self, instance_ids: Sequence[str]) -> list[str]:
        """Those of `instance_ids` that carry our uid, as far as AWS shows them."""
        unknown = sorted(set(instance_ids) - self.ours)
        for start in range(0, len(unknown), 200):  # EC2 takes 200 values in a filter
            filters = [self._mine(), {"Name": "instance-id", "Values": unknown[start : start + 200]}]
            self.ours |= {row["InstanceId"] for row in self._rows(filters)}
        return [instance_id for instance_id in instance_ids if instance_id in self.ours]

    def remember(self, row: Mapping[str, Any], node_id: str, generation: int) -> Instance:
        self.ours.add(row["InstanceId"])
        return self.instance(row, (node_id, generation))

    def instance(self, row: Mapping[str, Any], member: tuple[str, int] | None = None) -> Instance:
        tags = {tag["Key"]: tag["Value"] for tag in row.get("Tags") or ()}
        node_id, generation = member or _member(tags, int(row.get("AmiLaunchIndex") or 0))
        token = launch_token(self._uid, node_id, generation) if node_id else ""
        tags.pop(TAG_NODES, None)
        if node_id:
            tags |= {TAG_NODE: node_id, TAG_GENERATION: str(generation), TAG_TOKEN: token}
        why = row.get("StateReason") or {}
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
            detail=str(why.get("Message") or why.get("Code") or ""),
            tags=labels_of(tags),
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

    def _rows(self, filters: list[dict[str, Any]]) -> Any:
        what = f"listing the instances of cluster {self._uid[:8]} in {self._calls.region}"
        for page in self._calls.pages("ec2", "describe_instances", what, Filters=filters, MaxResults=PAGE):
            for reservation in page["Reservations"]:
                yield from reservation["Instances"]

    def _mine(self) -> dict[str, Any]:
        return {"Name": f"tag:{TAG_UID}", "Values": [self._uid]}


def _member(tags: Mapping[str, str], index: int) -> tuple[str, int]:
    """Which node an instance is: ("", 0) when its tags do not say."""
    if TAG_NODES in tags:
        members = members_of_tag(tags[TAG_NODES])
        return members[index] if index < len(members) else ("", 0)
    generation = tags.get(TAG_GENERATION, "")
    return tags.get(TAG_NODE, ""), int(generation) if generation.isdecimal() else 0
