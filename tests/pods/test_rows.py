"""What the status of a pod, as Kubernetes has it, is to us."""

from __future__ import annotations

from typing import Any

import pytest
from clusterctl_providers.kubernetes.rows import row_of

from clusterctl.core.errors import BadRequest, NoCapacity

Status = dict[str, Any]


def pod(status: Status, **metadata: Any) -> dict[str, Any]:
    labels = {"clusterctl-uid": "u", "clusterctl-node": "cpu-1", "clusterctl-generation": "2"}
    meta = {"name": "p", "namespace": "ml", "uid": "1", "creationTimestamp": "2026-11-30T06:00:00Z", "labels": labels}
    return {"metadata": {**meta, **metadata}, "spec": {"nodeName": "n"}, "status": status}


def waiting(reason: str, message: str = "") -> Status:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", "containerStatuses": [{"name": "node", "state": state}]}


def failed(reason: str = "", message: str = "", ended: Status | None = None) -> Status:
    told: Status = {"phase": "Failed", "reason": reason, "message": message}
    if ended:
        told["containerStatuses"] = [{"name": "node", "state": {"terminated": ended}}]
    return told


def test_a_pod_that_runs_has_its_address_and_says_whose_it_is() -> None:
    shown = row_of(pod({"phase": "Running", "podIP": "10.1.0.7"})).instance
    assert (shown.state, shown.address, shown.uid, shown.node_id, shown.generation) == (
        "running",
        "10.1.0.7",
        "u",
        "cpu-1",
        2,
    )
    assert (shown.zone, shown.created) == ("ml", 1796018400.0)


@pytest.mark.parametrize(
    ("status", "state", "refused", "words"),
    [
        (waiting("ContainerCreating"), "pending", "", "ContainerCreating"),
        (waiting("ErrImagePull", "dial tcp: i/o timeout"), "pending", "", "i/o timeout"),
        (waiting("ErrImagePull", "pull access denied"), "stopped", BadRequest.code, "pull access denied"),
        (waiting("ImagePullBackOff", 'Back-off pulling image "x"'), "pending", "", "Back-off"),
        (waiting("InvalidImageName", "couldn't parse"), "stopped", BadRequest.code, "InvalidImageName: couldn't parse"),
        (waiting("CreateContainerConfigError", "image will run as root"), "stopped", BadRequest.code, "as root"),
        (
            failed("OutOfcpu", "Node didn't have enough resource: cpu"),
            "stopped",
            NoCapacity.code,
            "enough resource: cpu",
        ),
        (failed("Evicted", "The node was low on resource: memory."), "stopped", "", "Evicted: The node was low on"),
        (failed(ended={"reason": "OOMKilled", "exitCode": 137}), "stopped", "", "OOMKilled (exit code 137)"),
        ({"phase": "Succeeded"}, "stopped", "", "it has ended"),
    ],
    ids=lambda value: value.get("reason") or "" if isinstance(value, dict) else str(value)[:20],
)
def test_a_pod_that_waits_or_failed_says_why(status: Status, state: str, refused: str, words: str) -> None:
    shown = row_of(pod(status)).instance
    assert (shown.state, shown.refused, shown.reclaimed) == (state, refused, False) and words in shown.detail


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("PreemptionByScheduler", "a pod of higher priority took its place"),
        ("TerminationByKubelet", "its node shuts down"),
        ("DeletionByTaintManager", "its node was tainted"),
        ("DeletionByPodGC", "its node is gone"),
    ],
)
def test_a_pod_whose_place_was_wanted_was_taken_back(reason: str, words: str) -> None:
    condition = {"type": "DisruptionTarget", "status": "True", "reason": reason}
    shown = row_of(pod({"phase": "Failed", "conditions": [condition]})).instance
    assert shown.reclaimed and shown.state == "stopped" and words in shown.detail


def test_a_pod_waits_for_a_node_or_behind_a_gate() -> None:
    told = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes are available."}
    row = row_of(pod({"phase": "Pending", "conditions": [told]}))
    assert (row.waits, row.instance.state, row.instance.queued) == ("unschedulable", "pending", False)
    assert row.instance.detail == "0/2 nodes are available"
    row = row_of(pod({"phase": "Pending", "conditions": [{**told, "reason": "SchedulingGated"}]}))
    assert (row.waits, row.instance.queued) == ("gated", True)


def test_a_pod_that_somebody_else_ends_runs_on_for_its_grace_and_one_that_we_end_does_not() -> None:
    status = {"phase": "Running", "containerStatuses": [{"name": "node", "state": {"running": {}}}]}
    ending = {"deletionTimestamp": "2026-11-30T06:10:00Z"}
    assert row_of(pod(status, **ending, deletionGracePeriodSeconds=60)).instance.state == "running"
    assert row_of(pod(status, **ending, deletionGracePeriodSeconds=10)).instance.state == "stopping"


def test_a_pod_that_cannot_end_names_the_node_that_is_silent() -> None:
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "Unknown"}]}
    shown = row_of(pod(status, deletionTimestamp="2026-11-30T06:10:00Z", deletionGracePeriodSeconds=10)).instance
    assert shown.state == "stopping" and "the node n, which does not answer" in shown.detail
