"""Doing the same work on cheaper or fewer nodes, where the saving outweighs what it disturbs.

Only work that says it may be disturbed is moved, only within its pool, and only as many nodes at a time as the disruption
budget allows. A move is scored in dollars: what the node costs over the horizon, less what its work has to redo (its age
since the last checkpoint, and a restart). Nothing is moved while nodes are coming up: they may change the picture.

Two moves: a node whose work fits into the room that others of its pool have left is drained; and where a cheaper offer
could hold a node's work, that one is launched first, so that the next plan finds the room.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clusterctl.core.limits import Allowance
from clusterctl.core.model import Drain, NodeState, NodeView, Offer, Policy, Pool, Reason, Shape
from clusterctl.core.scheduling.rooms import Room, Scale, copies, take


@dataclass(frozen=True)
class Move:
    """`drain` a node whose work fits elsewhere, or `launch` a cheaper one for it; the other is None."""

    drain: Drain | None
    launch: Offer | None
    reason: Reason
    score: float


def plan_consolidation(
    policy: Policy,
    views: Sequence[NodeView],
    offers: Sequence[Offer],
    pools: Sequence[Pool],
    spare: dict[str, int],
    allowance: Allowance,
    now: float,
) -> Move | None:
    """The best move, if any pays. `views` are the nodes that stay; `spare` is how many a pool has above its min."""
    ready = [v for v in views if v.node.state is NodeState.READY and v.drain == "" and v.preempt_at is None]
    by_name = {pool.name: pool for pool in pools if pool.role == "worker"}
    best: Move | None = None
    for view in sorted(ready, key=lambda v: v.node.id):
        pool = by_name.get(view.node.pool)
        if pool is None or not view.work or not all(work.disturbable for work in view.work):
            continue
        peers = [v for v in ready if v.node.pool == pool.name and v is not view and _serves_as_well(v.node.offer, view)]
        cost = _disturbance(policy, view, now)
        move = _drain_into(policy, view, peers, cost, now) if spare.get(pool.name, 0) > 0 else None
        move = move or _cheaper(policy, view, offers, allowance, cost)
        if move is not None and move.score > 0 and (best is None or move.score > best.score + 1e-9):
            best = move
    return best


def _serves_as_well(offer: Offer, view: NodeView) -> bool:
    """The node's work may depend on its GPU type and its labels: only an offer that has the same may take it over."""
    own = view.node.offer
    return offer.gpu_type == own.gpu_type and offer.labels == own.labels and offer.rank <= own.rank


def _disturbance(policy: Policy, view: NodeView, now: float) -> float:
    """Dollars of work to be done again if the node's work is moved now."""
    lost = max(now - (w.checkpointed if w.checkpointed is not None else w.since) for w in view.work)
    return (max(lost, 0.0) + policy.restart_seconds) / 3600.0 * view.node.offer.price


def _drain_into(policy: Policy, view: NodeView, peers: Sequence[NodeView], cost: float, now: float) -> Move | None:
    """Into room beside other work, or on an empty node that is cheaper: moving to an equal empty node saves nothing."""
    own = view.node.offer.price
    targets = [v for v in peers if v.work or v.node.offer.price < own]
    scale = Scale.of([Shape(work.resources) for work in view.work])
    rooms = [scale.room_beside(v.total, v.free, v.work) for v in targets]
    if not _fits(view, scale, rooms):
        return None
    score = own * policy.consolidation_horizon / 3600.0 - cost
    reason = Reason(
        "consolidation",
        f"its work fits on other nodes of pool {view.node.pool}: saves {own:.2f} $/h for {cost:.2f} $ of work done again",
    )
    return Move(Drain(view.node.id, reason, now + policy.consolidation_grace), None, reason, score)


def _cheaper(policy: Policy, view: NodeView, offers: Sequence[Offer], allowance: Allowance, cost: float) -> Move | None:
    own = view.node.offer.price
    scale = Scale.of([Shape(work.resources) for work in view.work])
    for offer in sorted(offers, key=lambda o: (o.price, o.key)):
        if offer.price >= own:
            return None
        if offer.pool != view.node.pool or not _serves_as_well(offer, view) or allowance.most(offer) < 1:
            continue
        if _fits(view, scale, [scale.room(offer.resources)]):
            boot = offer.boot_seconds / 3600.0 * offer.price
            score = (own - offer.price) * policy.consolidation_horizon / 3600.0 - cost - boot
            text = f"{view.node.id} could do its work on {offer.key} for {offer.price:.2f} instead of {own:.2f} $/h"
            return Move(None, offer, Reason("consolidation", text), score)
    return None


def _fits(view: NodeView, scale: Scale, rooms: list[Room]) -> bool:
    """Whether all work of the node fits into the rooms, the largest piece first, each into the fullest that holds it."""
    rooms = list(rooms)
    for work in sorted(view.work, key=lambda w: (-sum(a for _, a in w.resources.items), w.id)):
        need = scale.need(work.resources)
        able = [i for i, room in enumerate(rooms) if copies(room, need, scale.gpu)]
        if not able:
            return False
        fullest = min(able, key=lambda i: (sum(rooms[i][0]), i))
        rooms[fullest] = take(rooms[fullest], need, 1, scale.gpu)
    return True
