"""Why: a waiting demand, an offer that was passed over, a node that is kept or goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clusterctl.core.errors import NotYet
from clusterctl.core.lifecycle import deadline
from clusterctl.core.limits import Allowance
from clusterctl.core.model import (
    PENDING_STATES,
    Demand,
    Launch,
    NodeState,
    NodeView,
    Offer,
    PassedOver,
    Plan,
    Reason,
    Shape,
    Start,
)
from clusterctl.core.offers import Choice, choices_of, refusal, usable, waits_for_gpu
from clusterctl.core.scale_down.overrun import overruns
from clusterctl.core.scheduling.market import Market
from clusterctl.core.scheduling.placement import describe
from clusterctl.core.scheduling.remedies import COMING, Situation, remedy
from clusterctl.core.scheduling.rooms import Scale, copies
from clusterctl.core.scheduling.selectors import accepts, kind_of_offer, selector_keys, sparing_engine
from clusterctl.core.upkeep import ANY_POOL, JOINED_STATES, unheard
from clusterctl.core.waits import copies_of, expected_ready, soon


@dataclass(frozen=True)
class Explanation:
    """One answer. `reason.fix` is the nearest change that would help; `eta` is when it should be settled, if known."""

    subject: str
    kind: str  # "demand" | "node" | "offer"
    reason: Reason
    eta: float | None = None
    nodes: tuple[str, ...] = ()
    passed_over: tuple[PassedOver, ...] = ()


@dataclass(frozen=True)
class Step:
    """One line of a node's story, as journalled."""

    at: float
    event: str
    state: NodeState
    reason: str = ""
    code: str = ""


def explain_demand(situation: Situation, demand_id: str) -> Explanation | None:
    """Why a demand waits and what would let it pass; None when nobody wants that."""
    wanted = next((d for d in situation.demand if d.id == demand_id), None)
    if wanted is None:
        return None
    result = situation.plan()
    waits = [wait for wait in result.waits if wait.demand_id == demand_id]
    if not waits:
        reason = Reason("placeable", "a ready node has room for it: it starts as soon as the dispatcher gets to it")
        return Explanation(demand_id, "demand", reason, situation.now)
    stuck = [wait for wait in waits if wait.reason.code not in COMING]
    wait = stuck[0] if stuck else max(waits, key=lambda w: w.eta or 0.0)
    reason = wait.reason
    if stuck:
        reason = Reason(reason.code, reason.text, remedy(situation, demand_id, reason), reason.details)
    nodes = tuple(dict.fromkeys(node for w in waits for node in w.nodes))
    return Explanation(demand_id, "demand", reason, wait.eta, nodes, tuple(explain_offers(situation, wanted, result)))


def explain_offers(situation: Situation, wanted: Demand, result: Plan) -> list[PassedOver]:
    """For each offer that the plan did not take for this demand: why not."""
    taken = {
        a.offer.key: a.offer for a in result.actions if isinstance(a, Launch | Start) and wanted.id in a.demand_ids
    }
    context = _Context.of(situation, wanted)
    found = [
        PassedOver(offer.key, context.why_not(offer, list(taken.values())))
        for offer in sorted(situation.offers, key=lambda o: o.key)
        if offer.key not in taken
    ]
    return list({passed.offer_key: passed for passed in found}.values())


def explain_offer(situation: Situation, wanted: Demand, offer: Offer) -> Explanation:
    """Why one offer is, or is not, bought for a demand."""
    result = situation.plan()
    launched = [a for a in result.actions if isinstance(a, Launch | Start) and a.offer.key == offer.key]
    mine = [launch for launch in launched if wanted.id in launch.demand_ids]
    if mine:
        text = f"{len(mine)} of it are launched for this, at {offer.price:.4g} $/h each"
        return Explanation(offer.key, "offer", Reason("taken", text), nodes=tuple(launch.node_id for launch in mine))
    passed = {p.offer_key: p.reason for p in explain_offers(situation, wanted, result)}
    return Explanation(offer.key, "offer", passed.get(offer.key, Reason("unknown_offer", "it is not on offer now")))


@dataclass(frozen=True)
class _Context:
    situation: Situation
    shapes: tuple[Shape, ...]
    scale: Scale
    keys: frozenset[str]
    market: Market
    allowance: Allowance

    @classmethod
    def of(cls, situation: Situation, wanted: Demand) -> _Context:
        """What the answers for all offers share, found out once for the demand."""
        state, now = situation.state, situation.now
        shapes = tuple(sorted({shape for shape, _ in wanted.bundles}))
        scale, keys = Scale.of(shapes), selector_keys(set(shapes))
        good, _ = usable(situation.offers, state.pools, state.blocks, now)
        choices = choices_of(good, state.pools, scale, keys, by_zone=False)
        allowance = Allowance.of(situation.policy, state, [view.node for view in state.nodes], now)
        return cls(situation, shapes, scale, keys, Market.of(choices, shapes, scale), allowance)

    def why_not(self, offer: Offer, taken: Sequence[Offer]) -> Reason:
        """The first thing that speaks against the offer, `taken` being those that are bought instead."""
        state = self.situation.state
        pools = {pool.name: pool for pool in state.pools}
        found = refusal(offer, pools, state.blocks, self.situation.now)
        if found is not None:
            return found
        kind = kind_of_offer(offer, pools[offer.pool], self.keys)
        fitting = [shape for shape in self.shapes if accepts(kind, shape)]
        if not fitting and any(accepts(kind, sparing_engine(shape)) for shape in self.shapes):
            return Reason("no_engine", "its pool serves queue jobs only: it is not in the head's network")
        if not fitting:
            return Reason("other_kind", "its pool, GPU type or labels are not what is asked for")
        room = self.scale.room(offer.resources)
        fitting = [s for s in fitting if copies(room, self.scale.need(s.resources), self.scale.gpu)]
        if not fitting:
            return Reason("too_small", f"{describe(self.shapes[0])} does not fit into {offer.resources}")
        if "GPU" in offer.resources.units and not any(waits_for_gpu(s) for s in fitting) and self._without_gpu(fitting):
            return Reason("kept_for_gpu_work", "it has a GPU, which this does not ask for")
        obstacle = self.allowance.obstacle(offer)
        if obstacle is not None:
            return obstacle
        return self._less_good(offer, taken)

    def _without_gpu(self, shapes: Sequence[Shape]) -> list[Choice]:
        opening = [c for shape in shapes for c in self.market.opening(self.market.numbers[shape])]
        return [choice for choice in opening if not choice.has_gpu]

    def _less_good(self, offer: Offer, taken: Sequence[Offer]) -> Reason:
        if not taken:
            return Reason("not_needed", "nothing needs to be bought for this now")
        earlier = [o for o in taken if o.pool == offer.pool and o.rank < offer.rank]
        if earlier:
            return Reason("later_market", f"the pool tries {earlier[0].market} before {offer.market}")
        best = min(taken, key=lambda o: (o.price, o.key))
        text = (
            f"serving this with it costs more than with {best.key} ({offer.price:.4g} and {best.price:.4g} $/h a node)"
        )
        return Reason("dearer", text)


def explain_node(situation: Situation, node_id: str) -> Explanation | None:
    """Why a node is there, and what will become of it; None for an unknown node."""
    view = next((v for v in situation.state.nodes if v.node.id == node_id), None)
    if view is None:
        return None
    result = situation.plan()
    for action in result.actions:
        if getattr(action, "node_id", "") == node_id and action.op in ("drain", "terminate", "stop", "mark"):
            return Explanation(node_id, "node", action.reason, situation.now)
    return _explain_stay(situation, view, result)


def _explain_stay(situation: Situation, view: NodeView, result: Plan) -> Explanation:
    node, now = view.node, situation.now
    pool = next((p for p in situation.state.pools if p.name == node.pool), None)
    if node.state in PENDING_STATES:
        eta = expected_ready(view, now)
        limit = deadline(pool, node.state) if pool and node.code != NotYet.code else None
        until = f"; it is given up if still {node.state.value} in {node.since + limit - now:.0f} s" if limit else ""
        text = f"{node.reason or node.state.value}, {soon(eta - now)}{until}"
        return Explanation(node.id, "node", Reason(node.state.value, text), eta)
    heard = now if view.heartbeat is None else view.heartbeat
    if now - heard > situation.policy.heartbeat_timeout and node.state in JOINED_STATES:
        limit = (pool or ANY_POOL).dead_after
        return Explanation(node.id, "node", unheard(limit), heard + limit)
    if node.state is not NodeState.READY:
        return Explanation(
            node.id, "node", Reason(node.code or node.state.value, node.reason or f"it is {node.state.value}")
        )
    if view.work:
        names = ", ".join(work.id for work in view.work[:3]) + (
            f" and {len(view.work) - 3} more" if len(view.work) > 3 else ""
        )
        return Explanation(node.id, "node", _beyond(situation, view, Reason("working", f"it runs {names}")))
    wanted = [wait.demand_id for wait in result.waits if node.id in wait.nodes]
    wanted += dict(result.kept).get(node.id, ())
    if wanted:
        return Explanation(node.id, "node", _wanted(situation, wanted))
    if pool is not None and view.idle_since is not None:
        ready = [v for v in situation.state.nodes if v.node.pool == pool.name and v.node.state is NodeState.READY]
        if len(ready) <= pool.min:
            return Explanation(node.id, "node", Reason("min", f"pool {pool.name} keeps at least {pool.min}"))
        ends = view.idle_since + pool.idle_timeout
        return Explanation(
            node.id, "node", Reason("idle", f"idle, let go in {max(ends - now, 0):.0f} s unless wanted"), ends
        )
    reason = Reason("busy", "something runs on it (the engine says it is not idle)")
    return Explanation(node.id, "node", _beyond(situation, view, reason))


def _wanted(situation: Situation, demand_ids: Sequence[str]) -> Reason:
    """Of an idle node. What is wanted of nodes in total keeps it although nothing is to run there."""
    wanted = [demand for demand in situation.demand if demand.id in demand_ids]
    requested = [demand for demand in wanted if demand.source == "request"]
    if wanted and requested == wanted:
        what = " and ".join(copies_of(demand.bundles[0][0], demand.count) for demand in requested)
        return Reason("requested", f"nothing runs on it, but it stays for request_resources of {what}")
    return Reason("wanted", f"{demand_ids[0]} is to run on it")


def _beyond(situation: Situation, view: NodeView, reason: Reason) -> Reason:
    """With the limit that this node exceeds by running."""
    found = next((o for o in overruns(situation.state, situation.now) if o.amount(view) > 0), None)
    if found is None or view.node.role != "worker":
        return reason
    return Reason(reason.code, f"{reason.text}; {found.text}: it is let go once it is idle", found.fix, reason.details)


def story(steps: Sequence[Step]) -> list[str]:
    """A node's life in lines, each with the seconds since the one before: from intent to end."""
    lines: list[str] = []
    for index, step in enumerate(steps):
        gap = step.at - steps[index - 1].at if index else 0.0
        why = f": {step.reason}" if step.reason else ""
        lines.append(f"+{gap:.1f} s {step.event} -> {step.state.value}{why}")
    return lines
