"""What runs although a limit no longer allows it: a budget is spent, a limit was lowered. Launches have stopped by then
(`limits`); here it is decided what becomes of what is there.

Idle workers go at once, those of `min` too, and no more of them than brings the cluster back below the limit; of a spent budget
all that cost something. What runs work goes on until it is idle, or, where the user set `drain_after`, is drained now and
ended so many seconds later. The head stays: without it nothing would be looked after.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from clusterctl.core.limits import CENT, day_ends, month_ends
from clusterctl.core.model import PENDING_STATES, Action, Drain, NodeState, NodeView, Reason, State
from clusterctl.core.scale_down.letting_go import ScaleDown, draining, effort, let_go, may_go

BUDGETS = frozenset({"budget_per_day", "budget_per_month"})
OVERRUNS = BUDGETS | {"nodes_limit", "gpus_limit", "cost_limit", "pool_cost_limit"}
_COUNTED = (*PENDING_STATES, NodeState.READY)  # what is on its way out already needs no other to go


@dataclass(frozen=True)
class Overrun:
    """`excess` is how much too much there is, in what the limit counts; infinite for a spent budget. `pool`: "" for all."""

    code: str
    excess: float
    text: str
    fix: str
    pool: str = ""

    def amount(self, view: NodeView) -> float:
        """What letting this node go would give back."""
        if self.pool not in ("", view.node.pool):
            return 0.0
        if self.code == "nodes_limit":
            return 1.0
        if self.code == "gpus_limit":
            return view.node.offer.resources.get("GPU")
        return view.node.price


def overruns(state: State, now: float) -> list[Overrun]:
    """The limits that what is there, and is not going already, exceeds; the budgets first."""
    staying = [v for v in state.nodes if v.node.state in _COUNTED and not draining(v)]
    return [*_budgets(state), *_rates(state, staying)]


def _budgets(state: State) -> list[Overrun]:
    limits, spend = state.limits, state.spend
    found: list[Overrun] = []
    for period, spent, amount in (
        ("day", spend.today, limits.budget_per_day),
        ("month", spend.month, limits.budget_per_month),
    ):
        if amount is not None and spent >= amount - CENT:
            text = f"{spent:.2f} of {amount:g} $ of this {period}'s budget is spent"
            fix = f"raise limits.budget.per_{period}, or wait for the next {period} (UTC)"
            found.append(Overrun(f"budget_per_{period}", math.inf, text, fix))
    return found


def _rates(state: State, staying: Sequence[NodeView]) -> list[Overrun]:
    limits = state.limits
    price, gpus = sum(v.node.price for v in staying), sum(v.node.offer.resources.get("GPU") for v in staying)
    found: list[Overrun] = []
    for pool in state.pools:
        cost = sum(v.node.price for v in staying if v.node.pool == pool.name)
        if pool.max_cost_per_hour is not None and cost > pool.max_cost_per_hour + CENT:
            text = f"pool {pool.name} costs {cost:.2f} $/h, its limit is {pool.max_cost_per_hour:g}"
            fix = f"raise the pool's limits.cost_per_hour to {cost:.2f}"
            found.append(Overrun("pool_cost_limit", cost - pool.max_cost_per_hour, text, fix, pool.name))
    if limits.cost_per_hour is not None and price > limits.cost_per_hour + CENT:
        text = f"the cluster costs {price:.2f} $/h, its limit is {limits.cost_per_hour:g}"
        fix = f"raise limits.cost_per_hour to {price:.2f}"
        found.append(Overrun("cost_limit", price - limits.cost_per_hour, text, fix))
    if limits.nodes is not None and len(staying) > limits.nodes:
        text = f"the cluster has {len(staying)} nodes, its limit is {limits.nodes}"
        found.append(Overrun("nodes_limit", len(staying) - limits.nodes, text, f"raise limits.nodes to {len(staying)}"))
    if limits.gpus is not None and gpus > limits.gpus + CENT:
        text = f"the cluster has {gpus:g} GPUs, its limit is {limits.gpus:g}"
        found.append(Overrun("gpus_limit", gpus - limits.gpus, text, f"raise limits.gpus to {gpus:g}"))
    return found


def plan_overruns(
    views: Sequence[NodeView], state: State, complete: Mapping[str, bool], now: float, going: Collection[str] = ()
) -> ScaleDown:
    """Lets go of what the limits no longer allow; `going` are nodes that have an action of letting go already."""
    leaving = ScaleDown(wake=_spent_at(state, now))
    left = sorted((v for v in views if may_go(v, complete)), key=lambda v: (effort(v), -v.node.price, v.node.id))
    counted = {v.node.id: v for v in state.nodes if v.node.state in _COUNTED and not draining(v)}
    away = set(going)
    for overrun in overruns(state, now):
        excess = overrun.excess - sum(overrun.amount(counted[i]) for i in away if i in counted)
        for view in left:
            if excess <= CENT or view.node.id in away or overrun.amount(view) <= 0:
                continue
            busy = view.node.state is NodeState.READY and (bool(view.work) or view.idle_since is None)
            if busy and state.limits.drain_after is None:
                continue
            leaving.actions.append(_out(view, overrun, busy, state.limits.drain_after, now))
            away.add(view.node.id)
            excess -= overrun.amount(view)
    return leaving


def _out(view: NodeView, overrun: Overrun, busy: bool, drain_after: float | None, now: float) -> Action:
    if busy and drain_after is not None:
        text = f"{overrun.text}: what runs on it is stopped after {drain_after:.0f} s (limits.drain_after)"
        return Drain(view.node.id, Reason(overrun.code, text, overrun.fix), now + drain_after)
    return let_go(view, Reason(overrun.code, f"{overrun.text}, and nothing runs on it", overrun.fix))


def notes(state: State, now: float) -> tuple[Reason, ...]:
    """What a person should be told: by how much which limit is exceeded, by what is still there, and what ends that."""
    found: list[Reason] = []
    for overrun in overruns(state, now):
        busy = [v for v in state.nodes if v.node.role == "worker" and v.node.state is NodeState.READY]
        busy = [v for v in busy if overrun.amount(v) > 0 and not draining(v)]
        text = f"{overrun.text}: nothing is launched, and idle nodes are let go"
        if busy and state.limits.drain_after is None:
            price = sum(v.node.price for v in busy)
            text += f"; {len(busy)} nodes ({price:.2f} $/h) go on while something runs on them"
            fix = f"{overrun.fix}; limits.drain_after stops what runs after a while"
            found.append(Reason(overrun.code, text, fix))
        else:
            found.append(Reason(overrun.code, text, overrun.fix))
    return tuple(found)


def _spent_at(state: State, now: float) -> list[float]:
    """When a budget will be spent at the present rate: idle nodes go then, and not a moment later."""
    limits, spend = state.limits, state.spend
    price = sum(v.node.price for v in state.nodes if v.node.state not in (NodeState.GONE, NodeState.STOPPED))
    if price <= 0:
        return []
    budgets = (
        (limits.budget_per_day, spend.today, day_ends(now)),
        (limits.budget_per_month, spend.month, month_ends(now)),
    )
    times = [(now + (amount - spent) / price * 3600.0, end) for amount, spent, end in budgets if amount is not None]
    return [min(at, end) for at, end in times if at > now]
