"""Nodes that dial an address where their head is no longer."""

from __future__ import annotations

from collections.abc import Iterable

from clusterctl.core.lifecycle import EVENTS
from clusterctl.core.model import Node, NodeState
from clusterctl.provision.journal.book import Journal

_GIVEN_UP = EVENTS["fail"][0] - {NodeState.FAILED}


def give_up(journal: Journal, nodes: Iterable[Node], told: str, head: str, address: str, now: float) -> list[Node]:
    """Fails those of `nodes` that were `told` another address than `head` has now; returns them. Waiting for their leases to
    run out would be paid for, and their work would begin later. What they still run is lost only once the provider's lists
    show that they have ended."""
    reason = f"it dials {told}, where the head is no longer: {head} has the address {address}"
    lost = [node for node in nodes if node.role == "worker" and node.state in _GIVEN_UP]
    return [journal.move(node.id, "fail", now, reason, "head_moved") for node in lost]
