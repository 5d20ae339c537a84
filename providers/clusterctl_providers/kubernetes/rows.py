"""What a pod is to us: its status as an Instance, with the scheduler's or the kubelet's own sentence.

A pod that failed or ended stays as an object until somebody deletes it; so does one that will never start. Both are shown as
stopped, with what went wrong, and the head ends them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from clusterctl.core.errors import BadRequest, NoCapacity
from clusterctl.core.model import Instance, labels_of
from clusterctl_providers.base import TAG_GENERATION, TAG_NODE, TAG_TOKEN, TAG_UID
from clusterctl_providers.kubernetes.names import (
    ANNOTATION_TYPE,
    ANNOTATION_ZONE,
    CONTAINER,
    name_of,
    tags_of,
)

END_GRACE = 10.0  # seconds that a pod gets which we end
Pod = Mapping[str, Any]
# Waits for a node; held back by a gate, as Kueue does; neither.
Waits = Literal["", "unschedulable", "gated"]
SURELY_WRONG = frozenset({"InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError"})
_PULLS = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable"})
_STARTS = frozenset({"CreateContainerError", "RunContainerError", "StartError", "ContainerCannotRun"})
# what registries and runtimes say of an image that another try will not bring
_NO_SUCH_IMAGE = re.compile(
    r"not found|manifest unknown|unauthorized|denied|authentication required|no basic auth|invalid reference|"
    r"no match for platform|does not exist|no such host",
    re.IGNORECASE,
)
_NODE_WAS_FULL = ("OutOf", "UnexpectedAdmissionError", "NodeAffinity", "AdmissionFailed")
# conditions that say that the node was wanted for somebody else, or goes
_TAKEN_BACK = {
    "PreemptionByScheduler": "a pod of higher priority took its place",
    "DeletionByTaintManager": "its node was tainted",
    "TerminationByKubelet": "its node shuts down",
    "EvictionByEvictionAPI": "it was evicted",
    "DeletionByPodGC": "its node is gone",
}


@dataclass(frozen=True)
class Row:
    """`waits`: what an instance that is pending waits for; `said`: by whom it waits, in the scheduler's words."""

    instance: Instance
    pod_uid: str = ""
    waits: Waits = ""


def row_of(pod: Pod) -> Row:
    meta, status = pod["metadata"], pod.get("status") or {}
    shown = _described(pod)
    uid = str(meta.get("uid") or "")
    phase = str(status.get("phase") or "")
    ended = _container(status).get("terminated")
    if meta.get("deletionTimestamp"):
        # Somebody else ends it, with time to spare: its agent knows, and the head lets it finish what it does.
        runs = "running" in _container(status)
        drains = runs and float(meta.get("deletionGracePeriodSeconds") or 0) > END_GRACE
        return Row(replace(shown, state="running" if drains else "stopping", detail=_leaving(pod)), uid)
    if phase in ("Failed", "Succeeded") or ended is not None:
        return Row(_ended(shown, status, ended or {}), uid)
    if phase == "Running" or "running" in _container(status):
        return Row(replace(shown, state="running"), uid)
    return _pending(shown, status, uid)


def _pending(shown: Instance, status: Mapping[str, Any], uid: str) -> Row:
    scheduled = _condition(status, "PodScheduled")
    reason, message = str(scheduled.get("reason") or ""), _line(scheduled.get("message"))
    if scheduled.get("status") == "False" and reason == "SchedulingGated":
        return Row(replace(shown, queued=True, detail=message or "its scheduling gates hold it back"), uid, "gated")
    if scheduled.get("status") == "False":
        return Row(replace(shown, detail=message or "the scheduler has found no node for it"), uid, "unschedulable")
    waiting = _container(status).get("waiting") or {}
    why, text = str(waiting.get("reason") or ""), _line(waiting.get("message"))
    said = ": ".join(filter(None, (why, text)))
    wrong = why in SURELY_WRONG or (why in _PULLS and _NO_SUCH_IMAGE.search(text)) or why in _STARTS
    if wrong:
        return Row(replace(shown, state="stopped", refused=BadRequest.code, detail=said), uid)
    return Row(replace(shown, detail=said), uid)


def _ended(shown: Instance, status: Mapping[str, Any], ended: Mapping[str, Any]) -> Instance:
    """Of a pod that is over: why, and whether somebody wanted its place."""
    reason = str(status.get("reason") or "")
    disruption = _condition(status, "DisruptionTarget")
    by = str(disruption.get("reason") or "") if disruption.get("status") == "True" else ""
    how = str(ended.get("reason") or "")
    code = ended.get("exitCode")
    parts = [
        f"{by}, {_TAKEN_BACK[by]}" if by in _TAKEN_BACK else by,
        reason if reason != by else "",
        _line(status.get("message")) or _line(disruption.get("message")),
        f"{how} (exit code {code})" if how and code is not None else how,
        _line(ended.get("message")),
    ]
    full = reason.startswith(_NODE_WAS_FULL)
    return replace(
        shown,
        state="stopped",
        detail=": ".join(filter(None, parts)) or "it has ended",
        refused=NoCapacity.code if full else "",
        reclaimed=by in _TAKEN_BACK or reason in ("Preempting", "NodeShutdown", "Shutdown", "Terminated", "NodeLost"),
    )


def _leaving(pod: Pod) -> str:
    """Why it is being deleted, where somebody else does it, and that it cannot end where its node is silent."""
    status = pod.get("status") or {}
    disruption = _condition(status, "DisruptionTarget")
    by = str(disruption.get("reason") or "") if disruption.get("status") == "True" else ""
    if by:
        return f"{by}, {_TAKEN_BACK.get(by, 'it is evicted')}"
    node = (pod.get("spec") or {}).get("nodeName")
    if status.get("reason") == "NodeLost" or (
        _condition(status, "Ready").get("status") == "Unknown" and node is not None
    ):
        return f"its end waits for the node {node}, which does not answer; it is gone when that node is"
    return ""


def _described(pod: Pod) -> Instance:
    meta, status = pod["metadata"], pod.get("status") or {}
    tags = tags_of(pod)
    generation = tags.get(TAG_GENERATION, "")
    return Instance(
        id=name_of(pod),
        uid=tags.get(TAG_UID, ""),
        node_id=tags.get(TAG_NODE, ""),
        generation=int(generation) if generation.isdecimal() else 0,
        state="pending",
        address=str(status.get("podIP") or ""),
        zone=tags.pop(ANNOTATION_ZONE, "") or str(meta.get("namespace") or ""),
        instance_type=tags.pop(ANNOTATION_TYPE, ""),
        created=seconds(meta.get("creationTimestamp")),
        token=tags.get(TAG_TOKEN, ""),
        tags=labels_of(tags),
    )


def seconds(stamp: Any) -> float:
    """Unix seconds of a time as the API writes it, 0.0 for none."""
    try:
        return datetime.fromisoformat(str(stamp).replace("Z", "+00:00")).timestamp() if stamp else 0.0
    except ValueError:
        return 0.0


def _container(status: Mapping[str, Any]) -> Mapping[str, Any]:
    """State of the node's container."""
    found = (one for one in status.get("containerStatuses") or () if one.get("name") == CONTAINER)
    return (next(found, None) or {}).get("state") or {}


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return next((one for one in status.get("conditions") or () if one.get("type") == kind), {})


def _line(text: Any) -> str:
    return " ".join(str(text or "").split()).rstrip(".")[:500]
