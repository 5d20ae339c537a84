"""What `up` tells while the head's machine does not come."""

from __future__ import annotations

import time
from typing import Any, cast

from clusterctl.client.up.cloud_launch import UNSEEN_SECONDS, Launching
from clusterctl.core.model import Instance, Node, NodeState, Observed, Offer
from clusterctl.core.resources import Resources

NONE: Any = None
OFFER = Offer("head", "pod", "on-demand", "", 0.0, Resources.of({"CPU": 1.0}))


def told_of(since: float, *details: str, state: str = "pending") -> list[str]:
    """By one `up`, whose looks find these details in turn."""
    said: list[str] = []
    launching = Launching(NONE, NONE, NONE, NONE, said.append, 60.0)
    node = Node("head-1", 1, "t", OFFER, NodeState.REQUESTED, since, since, role="head", instance_id="i-1")
    for detail in details:
        shown = Instance("i-1", "u", "head-1", 1, cast("Any", state), detail=detail)
        launching._tell_why(node, (Observed("pods", (shown,), True, time.time()),))
    return said


def test_what_a_provider_says_of_a_head_that_waits_is_told_once() -> None:
    long_ago = time.time() - UNSEEN_SECONDS - 1
    said = told_of(long_ago, "", "exceeded quota: small", "exceeded quota: small", "0/3 nodes are available")
    assert said == ["head-1 (i-1) waits: exceeded quota: small", "head-1 (i-1) waits: 0/3 nodes are available"]


def test_what_passes_in_a_moment_or_runs_is_not_told() -> None:
    assert told_of(time.time(), "ContainerCreating") == []
    assert told_of(time.time() - 60, "it runs", state="running") == []
