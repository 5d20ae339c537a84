"""What would let a waiting demand pass: the smallest change of a limit, or the largest ask that fits, found by planning again.

The planner itself is the judge, so a remedy is never a guess: with it, the same plan would serve the demand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from clusterctl.core.model import Demand, Observed, Offer, Plan, Policy, Reason, State
from clusterctl.core.placement import describe
from clusterctl.core.planner import plan

COMING = frozenset({"starting", "launching"})  # codes of waits that end by themselves
_CHAIN = 3  # limits that are relaxed one after the other before giving up
_MOST = 1 << 14


@dataclass(frozen=True)
class Situation:
    """Everything that a plan is made from, to plan again with a change."""

    policy: Policy
    observed: tuple[Observed, ...]
    state: State
    demand: tuple[Demand, ...]
    offers: tuple[Offer, ...]
    now: float

    def plan(self) -> Plan:
        return plan(self.policy, self.observed, self.state, self.demand, self.offers, self.now)

    def obstacle(self, demand_id: str) -> Reason | None:
        """Why (part of) the demand is not served even by nodes that are coming; None if all of it is."""
        waits = [w for w in self.plan().waits if w.demand_id == demand_id and w.reason.code not in COMING]
        return waits[0].reason if waits else None


def remedy(situation: Situation, demand_id: str, reason: Reason) -> str:
    """A sentence such as "ask for 7 x GPU, or raise max of pool gpu from 4 to 5"; the reason's own fix if nothing helps."""
    wanted = next((d for d in situation.demand if d.id == demand_id), None)
    if wanted is None:
        return reason.fix
    parts = [_ask_for_less(situation, wanted), _raise_limits(situation, demand_id, reason)]
    return ", or ".join(part for part in parts if part) or reason.fix


def _ask_for_less(situation: Situation, wanted: Demand) -> str:
    """The largest gang of the same shape that would be served."""
    if not wanted.gang or len(wanted.bundles) != 1 or wanted.bundles[0][1] < 2:
        return ""
    shape, size = wanted.bundles[0]

    def served(n: int) -> bool:
        smaller = replace(wanted, bundles=((shape, n),))
        demand = tuple(smaller if d.id == wanted.id else d for d in situation.demand)
        return replace(situation, demand=demand).obstacle(wanted.id) is None

    largest = _largest(served, size - 1)
    return f"ask for {largest} instead of {size} times {describe(shape)}" if largest else ""


def _largest(served: Callable[[int], bool], most: int) -> int:
    """The largest n in 1..most that is served, taking it that less is served where more is; 0 if none."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if served(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _raise_limits(situation: Situation, demand_id: str, reason: Reason) -> str:
    """The smallest new value of each limit that stands in the way, one after the other."""
    said: list[str] = []
    for _ in range(_CHAIN):
        step = _relax(situation, demand_id, reason)
        if step is None:
            return ""
        situation, text = step
        said.append(text)
        found = situation.obstacle(demand_id)
        if found is None:
            return " and ".join(said)
        reason = found
    return ""


def _relax(situation: Situation, demand_id: str, reason: Reason) -> tuple[Situation, str] | None:
    state, limits = situation.state, situation.state.limits
    pool = next((p for p in state.pools if p.name == dict(reason.details).get("pool")), None)
    if reason.code == "pool_max" and pool is not None:

        def with_max(n: int) -> Situation:
            pools = tuple(replace(p, max=pool.max + n) if p.name == pool.name else p for p in state.pools)
            return replace(situation, state=replace(state, pools=pools))

        return _least(
            with_max, demand_id, reason, lambda n: f"raise max of pool {pool.name} from {pool.max} to {pool.max + n}"
        )
    if reason.code == "nodes_limit" and limits.nodes is not None:
        nodes = limits.nodes
        return _least(
            lambda n: replace(situation, state=replace(state, limits=replace(limits, nodes=nodes + n))),
            demand_id,
            reason,
            lambda n: f"raise limits.nodes from {nodes} to {nodes + n}",
        )
    if reason.code == "gpus_limit" and limits.gpus is not None:
        gpus = limits.gpus
        return _least(
            lambda n: replace(situation, state=replace(state, limits=replace(limits, gpus=gpus + n))),
            demand_id,
            reason,
            lambda n: f"raise limits.gpus from {gpus:g} to {gpus + n:g}",
        )
    if reason.code == "cost_limit" and limits.cost_per_hour is not None:
        cost = limits.cost_per_hour
        return _least(
            lambda n: replace(situation, state=replace(state, limits=replace(limits, cost_per_hour=cost + n))),
            demand_id,
            reason,
            lambda n: f"raise limits.cost_per_hour from {cost:g} to {cost + n:g}",
        )
    return None


def _least(
    change: Callable[[int], Situation], demand_id: str, reason: Reason, say: Callable[[int], str]
) -> tuple[Situation, str] | None:
    """The least n for which this limit no longer stands in the demand's way."""

    def passes(n: int) -> bool:
        found = change(n).obstacle(demand_id)
        return found is None or (found.code, found.details) != (reason.code, reason.details)

    high = 1
    while not passes(high):
        high *= 2
        if high > _MOST:
            return None
    low = high // 2 + 1 if high > 1 else 1
    while low < high:
        middle = (low + high) // 2
        if passes(middle):
            high = middle
        else:
            low = middle + 1
    return change(high), say(high)
