"""plan(): what to launch, drain and end, and why everything else waits.

The order of thought: what the records need (upkeep), what min asks for, what standing requests ask for, then demand:
onto free capacity, onto nodes that may be called back or are coming up, and last onto new offers. Then what may go.
Equal inputs give equal plans: every collection is walked in a sorted order, and nothing reads a clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from clusterctl.core.consolidation import plan_consolidation
from clusterctl.core.demand import STANDING
from clusterctl.core.letting_go import (
    Leaving,
    Surplus,
    draining,
    plan_ends,
    plan_idle,
    plan_notices,
    plan_over_max,
    plan_returns,
    plan_spec_changes,
)
from clusterctl.core.lifecycle import deadline
from clusterctl.core.model import (
    LIVE_STATES,
    Action,
    Demand,
    Drain,
    Launch,
    Mark,
    NodeState,
    NodeView,
    Observed,
    Offer,
    Plan,
    Policy,
    Shape,
    State,
    Terminate,
)
from clusterctl.core.serving import Serving
from clusterctl.core.upkeep import plan_upkeep, survey
from clusterctl.core.users import admit


def plan(
    policy: Policy,
    observed: tuple[Observed, ...],
    state: State,
    demand: tuple[Demand, ...],
    offers: tuple[Offer, ...],
    now: float,
) -> Plan:
    """The whole decision for one moment. `now` is on the clock of all times in `state` and `observed`."""
    found = survey(observed, state)
    upkeep = plan_upkeep(policy, observed, found, state, now)
    settled = {action.node_id for action in upkeep if not (isinstance(action, Mark) and action.event in _MILD)}
    gone = {action.node_id for action in upkeep if isinstance(action, Mark) and action.event == "gone"}
    views = sorted((v for v in state.nodes if v.node.state in LIVE_STATES), key=lambda v: v.node.id)
    live = [view for view in views if view.node.id not in gone]
    rest = [view for view in live if view.node.id not in settled and view.node.state is not NodeState.QUARANTINED]

    touched = {action.node_id for action in upkeep}  # one action per node and plan: letting go can wait for the next
    ends = plan_ends([view for view in rest if view.node.id not in touched], found.complete, now)
    touched |= ends.ids
    notices = plan_notices([view for view in rest if view.node.id not in touched], now)
    touched |= notices.ids
    surplus = Surplus.of(state, rest, ends.ids | notices.ids)
    disturbed = sum(1 for view in live if draining(view) and view.node.code in ("spec_changed", "consolidation"))
    over = plan_over_max([view for view in rest if view.node.id not in touched], surplus, found.complete)
    touched |= over.ids
    untouched = [view for view in rest if view.node.id not in touched]
    stale = plan_spec_changes(policy, untouched, surplus, found.complete, disturbed)
    leaving = [ends, notices, over, stale]
    away = set[str]().union(*(part.ids for part in leaving))

    serving = Serving(policy, state, [view for view in rest if view.node.id not in away], live, offers, now)
    for pool in sorted(state.pools, key=lambda pool: (pool.role != "head", pool.name)):
        lacking = pool.min - surplus.staying.get(pool.name, 0)
        if lacking > 0:
            serving.keep_minimum(pool, lacking)
    admitted, refused = admit(demand, state, serving.offers)
    serving.waits.extend(refused)
    passing = [d for d in admitted if d.source not in STANDING] + _replacements(rest, now)
    serving.serve([d for d in admitted if d.source in STANDING], in_total=True)
    serving.serve(passing, in_total=False)
    untouched = [view for view in untouched if view.node.id not in stale.ids]
    returns = plan_returns(untouched, serving.wanted_back())
    leaving.append(plan_idle(untouched, serving.used(), surplus, now))
    untouched = [view for view in untouched if view.node.id not in leaving[-1].ids]
    if (
        policy.consolidate
        and disturbed + len(stale.ids) < policy.disruption_budget
        and not serving.site.buys_or_awaits()
    ):
        spare = {pool.name: surplus.spare(pool.name) for pool in state.pools}
        move = plan_consolidation(policy, untouched, serving.offers, state.pools, spare, serving.allowance, now)
        if move is not None and move.drain is not None and move.drain.node_id not in serving.used():
            leaving.append(Leaving([move.drain]))
        elif move is not None and move.launch is not None:
            serving.allowance.take(move.launch, 1)
            serving.site.add_launch(move.launch, move.reason)

    actions: list[Action] = [*upkeep, *returns]
    for part in leaving:
        actions.extend(part.actions)
    actions.extend(serving.site.launches())
    wake = [at for part in leaving for at in part.wake] + serving.wake + _deadlines(state, live, now)
    return Plan(
        actions=tuple(actions),
        waits=tuple(serving.waits),
        passed_over=tuple(serving.passed_over()),
        wake_at=min((at for at in wake if at > now), default=None),
        price_before=round(sum(view.node.offer.price for view in views), 6),
        price_after=round(_price_after(views, actions), 6),
    )


def _replacements(views: Sequence[NodeView], now: float) -> list[Demand]:
    """Work on nodes that the provider is about to take away, as demand: its replacement is launched at once."""
    found: list[Demand] = []
    for view in views:
        if view.preempt_at is None or not view.work:
            continue
        own = view.node.offer
        shapes = Counter(
            Shape(work.resources, own.gpu_type if "GPU" in work.resources.units else "", own.pool) for work in view.work
        )
        bundles = tuple(sorted(shapes.items()))
        found.append(Demand(f"replace:{view.node.id}", "replacement", bundles, since=now, refs=(view.node.id,)))
    return found


_MILD = frozenset({"running", "requested"})  # events after which a node goes on as before


def _price_after(views: Sequence[NodeView], actions: Sequence[Action]) -> float:
    away = {a.node_id for a in actions if isinstance(a, Drain | Terminate)}
    away |= {a.node_id for a in actions if isinstance(a, Mark) and a.event in ("gone", "fail")}
    launched = sum(action.offer.price for action in actions if isinstance(action, Launch))
    return sum(view.node.offer.price for view in views if view.node.id not in away) + launched


def _deadlines(state: State, views: Sequence[NodeView], now: float) -> list[float]:
    """When a node will have been in its state for too long, or silent for too long."""
    pools = {pool.name: pool for pool in state.pools}
    wake: list[float] = []
    for view in views:
        pool = pools.get(view.node.pool)
        if pool is None:
            continue
        limit = deadline(pool, view.node.state)
        if limit is not None:
            wake.append(view.node.since + limit + 0.001)
        if view.heartbeat is not None and view.node.state in (NodeState.JOINING, NodeState.READY, NodeState.DRAINING):
            wake.append(view.heartbeat + pool.orphan_timeout + 0.001)
    return [at for at in wake if at > now]
