"""What DescribeInstances shows of a cluster, as instances that know which node they are."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from clusterctl.core.errors import BadRequest, NoCapacity, ProviderError, QuotaExceeded
from clusterctl.core.model import Instance, Observed, labels_of, launch_token
from clusterctl_providers.aws.batches import TAG_NODES, Batch, members_of_tag
from clusterctl_providers.aws.calls import PATIENCE, Calls
from clusterctl_providers.aws.reservations import market_of
from clusterctl_providers.base import TAG_CLUSTER, TAG_GENERATION, TAG_NODE, TAG_TOKEN, TAG_UID

log = logging.getLogger(__name__)

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
SEEN_BY = 5.0  # seconds after which an instance that no list shows is asked for
MISSED_FOR = 600.0  # seconds; then it is not asked for any more


class Listing:
    """Reads instances by our tags. Remembers which ids it has shown or launched: those are ours to end."""

    def __init__(self, calls: Calls, uid: str) -> None:
        self._calls, self._uid = calls, uid
        self.ours: set[str] = set()
        self._alive: dict[str, float] = {}  # id -> when it was launched or shown last, of those that we did not end
        self._let_go: set[str] = set()
        self._over: set[str] = set()  # known to have ended

    def observe(self, scope: str) -> Observed:
        """One pass over all pages. What came before a page that failed is kept and said to be incomplete."""
        now = time.time()
        instances: list[Instance] = []
        filters = [self._mine(), {"Name": "instance-state-name", "Values": _ALIVE}]
        try:
            for row in self._rows(filters):
                instances.append(self.instance(row))
        except ProviderError as error:
            return Observed(scope, tuple(instances), False, now, str(error), error.code)
        self.ours |= {instance.id for instance in instances}
        ended = self._ended({instance.id for instance in instances}, now)
        return Observed(scope, (*instances, *ended), True, now)

    def _ended(self, shown: set[str], now: float) -> list[Instance]:
        """Those that are gone from the list though nobody here ended them, shown once as ended, with AWS's reason."""
        self._alive |= dict.fromkeys(shown - self._let_go, now)
        self._let_go &= shown
        missing = [i for i, at in sorted(self._alive.items()) if now - at > SEEN_BY and i not in shown]
        found: list[Instance] = []
        try:
            for start in range(0, len(missing), MOST_VALUES):
                filters = [self._mine(), {"Name": "instance-id", "Values": missing[start : start + MOST_VALUES]}]
                found += [self.instance(row) for row in self._rows(filters)]
        except ProviderError as error:
            log.info("%s; why %d instances ended is asked for again", error, len(missing))
            return []
        for instance_id in missing:
            if now - self._alive[instance_id] > MISSED_FOR or any(i.id == instance_id for i in found):
                del self._alive[instance_id]
        over = [instance for instance in found if instance.state == "terminated"]
        self._over |= {instance.id for instance in over}
        return over

    def look_up(self, instance_ids: Sequence[str]) -> dict[str, Instance]:
        """By id and by nothing else: whoever took our tags off an instance did not end it."""
        found: dict[str, Instance] = {}
        for start in range(0, len(instance_ids), MOST_VALUES):
            filters = [{"Name": "instance-id", "Values": list(instance_ids[start : start + MOST_VALUES])}]
            found |= {row["InstanceId"]: self.instance(row) for row in self._rows(filters)}
        return found

    def is_new(self, instance_id: str) -> bool:
        """Launched or shown so lately that AWS may not know it everywhere yet."""
        return time.time() - self._alive.get(instance_id, 0.0) < PATIENCE

    def let_go(self, instance_ids: Iterable[str]) -> None:
        """We end them: nobody asks why."""
        self._let_go |= set(instance_ids)
        for instance_id in self._let_go:
            self._alive.pop(instance_id, None)

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
        """Those of `instance_ids` that carry our uid and are not known to have ended, as far as AWS shows them."""
        unknown = sorted(set(instance_ids) - self.ours)
        for start in range(0, len(unknown), MOST_VALUES):
            filters = [self._mine(), {"Name": "instance-id", "Values": unknown[start : start + MOST_VALUES]}]
            self.ours |= {row["InstanceId"] for row in self._rows(filters)}
        return [instance_id for instance_id in instance_ids if instance_id in self.ours - self._over]

    def remember(self, row: Mapping[str, Any], node_id: str, generation: int) -> Instance:
        self.ours.add(row["InstanceId"])
        self._alive[row["InstanceId"]] = time.time()
        return self.instance(row, (node_id, generation))

    def instance(self, row: Mapping[str, Any], member: tuple[str, int] | None = None) -> Instance:
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

    def _rows(self, filters: list[dict[str, Any]]) -> Any:
        what = f"listing the instances of cluster {self._uid[:8]} in {self._calls.region}"
        for page in self._calls.pages("ec2", "describe_instances", what, Filters=filters, MaxResults=PAGE):
            for reservation in page["Reservations"]:
                yield from reservation["Instances"]

    def _mine(self) -> dict[str, Any]:
        return {"Name": f"tag:{TAG_UID}", "Values": [self._uid]}


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
