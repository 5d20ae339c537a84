"""Reservations: which nodes are held for starving requests, as the planner must see it: the dispatcher starts nothing else there.

The rule is `place`'s own, asked with the oldest of each demand; so what queues behind is planned onto other room, instead
of counting on room that the dispatcher will not give it.
"""

from __future__ import annotations

from collections.abc import Sequence

from clusterctl.core.model import Demand, NodeView
from clusterctl.core.scheduling.placement import Request, place, starves_at

QUEUED = frozenset({"job", "replacement"})  # what the dispatcher starts; the engine places its own tasks and actors


def reserved_nodes(
    demand: Sequence[Demand], views: Sequence[NodeView], now: float, silent_after: float
) -> dict[str, str]:
    """Node id -> id of the demand that it is reserved for. `demand` is in the order of the queue."""
    queued = [d for d in demand if d.source == "job" and d.count > 0]
    if not any(starves_at(d.since) <= now for d in queued):
        return {}
    requests = [Request(d.id, d.bundles, d.gang, d.strategy, d.one_zone, d.since) for d in queued]
    placement = place(requests, views, now=now, heartbeat_timeout=silent_after)
    return {node_id: demand_id for demand_id, nodes in placement.reserved for node_id in nodes}


def next_reservations(demand: Sequence[Demand], now: float) -> list[float]:
    """When demands that do not starve yet will: room that others count on may be reserved from then on."""
    return [at for d in demand if d.source == "job" and d.count > 0 and (at := starves_at(d.since)) > now]
