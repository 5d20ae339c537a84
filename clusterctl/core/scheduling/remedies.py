"""What would let a waiting demand pass: the smallest change of a limit, or the largest ask that fits, found by planning again.

The planner itself is the judge, so a remedy is never a guess: with it, the same plan would serve the demand. A plan of a
large cluster takes long, so there is a budget of plans: searches begin where the answer should be, and when the budget
is spent they settle for a change that is known to do, even if a smaller one might.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from clusterctl.core.model import Demand, Launch, NodeState, Observed, Offer, Plan, Policy, Reason, Start, State
from clusterctl.core.planner import plan
from clusterctl.core.scheduling.placement import describe

COMING = frozenset({"starting", "launching", "returning"})  # codes of waits that end by themselves
_CHAIN = 3  # limits that are relaxed one after the other before giving up
_MOST = 1 << 14  # by how much a limit is raised to see whether it matters at all
_NODES_PLANNED = 8_000  # nodes that all plans of one answer look at together
_FEWEST, _MOST_PLANS = 4, 60


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
        """What the planner decides here."""
        return plan(self.policy, self.observed, self.state, self.demand, self.offers, self.now)

    def obstacle(self, demand_id: str) -> Reason | None:
        """Why (part of) the demand is not served even by nodes that are coming; None if all of it is."""
        return obstacle_in(self.plan(), demand_id)


def obstacle_in(result: Plan, demand_id: str) -> Reason | None:
    """Why the demand waits in this plan; None when it is served, or what it waits for is coming."""
    waits = [w for w in result.waits if w.demand_id == demand_id and w.reason.code not in COMING]
    return waits[0].reason if waits else None


class _Spent(Exception):
    """The budget of plans is used up."""


@dataclass
class _Budget:
    left: int

    @classmethod
    def of(cls, situation: Situation) -> _Budget:
        """The more nodes there are, the longer a plan takes, and the fewer are made."""
        affordable = _NODES_PLANNED // (len(situation.state.nodes) + 1)
        return cls(max(_FEWEST, min(affordable, _MOST_PLANS)))

    def plan(self, situation: Situation) -> Plan:
        """One plan less is left. Raises _Spent when there was none."""
        if self.left <= 0:
            raise _Spent
        self.left -= 1
        return situation.plan()

    def half(self) -> _Budget:
        """Half of what is left, set apart."""
        part = _Budget(self.left // 2)
        self.left -= part.left
        return part


def remedy(situation: Situation, demand_id: str, reason: Reason) -> str:
    """A sentence such as "ask for 7 x GPU, or raise max of pool gpu from 4 to 5"; the reason's own fix if nothing helps."""
    wanted = next((d for d in situation.demand if d.id == demand_id), None)
    if wanted is None:
        return reason.fix
    budget = _Budget.of(situation)
    less = budget.half()
    smaller = _ask_for_less(situation, wanted, less)
    budget.left += less.left
    parts = [smaller, _raise_limits(situation, demand_id, reason, budget)]
    return ", or ".join(part for part in parts if part) or reason.fix


def _ask_for_less(situation: Situation, wanted: Demand, budget: _Budget) -> str:
    """The largest gang of the same shape that would be served. As many ranks as would be served one by one are tried first."""
    if not wanted.gang or len(wanted.bundles) != 1 or wanted.bundles[0][1] < 2:
        return ""
    shape, size = wanted.bundles[0]

    def instead(other: Demand) -> Plan:
        return budget.plan(
            replace(situation, demand=tuple(other if d.id == wanted.id else d for d in situation.demand))
        )

    def refused(n: int) -> bool:
        return obstacle_in(instead(replace(wanted, bundles=((shape, n),))), wanted.id) is not None

    try:
        apart = instead(replace(wanted, bundles=((shape, 1),), count=size, gang=False, strategy=""))
    except _Spent:
        return ""
    open_ranks = sum(w.count for w in apart.waits if w.demand_id == wanted.id and w.reason.code not in COMING)
    largest, _ = _between(refused, 0, size, size - open_ranks)
    return f"ask for {largest} instead of {size} times {describe(shape)}" if largest else ""


def _between(passes: Callable[[int], bool], low: int, high: int, guess: int) -> tuple[int, int]:
    """Neighbours of which the first does not pass and the second does, as `low` and `high` do already; or as near as the
    budget of plans allows. The guess and its neighbours are looked at first."""
    probes = [guess - 1, guess + 1, guess]
    try:
        while high - low > 1:
            middle = probes.pop() if probes else (low + high) // 2
            if not low < middle < high:
                continue
            if passes(middle):
                high = middle
            else:
                low = middle
    except _Spent:
        pass
    return low, high


def _raise_limits(situation: Situation, demand_id: str, reason: Reason, budget: _Budget) -> str:
    """The smallest new value of each limit that stands in the way, one after the other."""
    said: list[str] = []
    for _ in range(_CHAIN):
        limit = _limit_of(situation, reason)
        try:
            step = _least(limit, demand_id, reason, budget) if limit is not None else None
        except _Spent:
            return ""
        if limit is None or step is None:
            return ""
        n, found = step
        situation = limit.raised(n)
        said.append(f"{limit.say} from {limit.value:g} to {limit.value + n:g}")
        if found is None:
            return " and ".join(said)
        reason = found
    return ""


@dataclass(frozen=True)
class _Limit:
    """A limit that may be raised: `measure` is how much of it an offer uses up, 0 where it does not count."""

    say: str
    value: float
    raised: Callable[[int], Situation]
    measure: Callable[[Offer], float]


def _limit_of(situation: Situation, reason: Reason) -> _Limit | None:
    state, limits = situation.state, situation.state.limits
    pool = next((p for p in state.pools if p.name == dict(reason.details).get("pool")), None)

    def with_limit(name: str, value: float) -> Callable[[int], Situation]:
        return lambda n: replace(situation, state=replace(state, limits=replace(limits, **{name: value + n})))

    if reason.code == "pool_max" and pool is not None:

        def with_max(n: int) -> Situation:
            pools = tuple(replace(p, max=pool.max + n) if p.name == pool.name else p for p in state.pools)
            return replace(situation, state=replace(state, pools=pools))

        return _Limit(f"raise max of pool {pool.name}", pool.max, with_max, lambda o: o.pool == pool.name)
    if reason.code == "nodes_limit" and limits.nodes is not None:
        return _Limit("raise limits.nodes", limits.nodes, with_limit("nodes", limits.nodes), lambda o: 1)
    if reason.code == "gpus_limit" and limits.gpus is not None:
        return _Limit(
            "raise limits.gpus", limits.gpus, with_limit("gpus", limits.gpus), lambda o: o.resources.get("GPU")
        )
    if reason.code == "cost_limit" and limits.cost_per_hour is not None:
        cost = limits.cost_per_hour
        return _Limit("raise limits.cost_per_hour", cost, with_limit("cost_per_hour", cost), lambda o: o.price)
    return None


def _least(limit: _Limit, demand_id: str, reason: Reason, budget: _Budget) -> tuple[int, Reason | None] | None:
    """The least n by which the limit must rise so that it no longer stands in the demand's way, and what does then.

    A plan with far more of it shows how much is used in all, which is enough, and for this demand, which is the guess."""
    answers: dict[int, Reason | None] = {}

    def stands(found: Reason | None) -> bool:
        return found is not None and (found.code, found.details) == (reason.code, reason.details)

    def passes(n: int) -> bool:
        if n not in answers:
            answers[n] = obstacle_in(budget.plan(limit.raised(n)), demand_id)
        return not stands(answers[n])

    plenty = limit.raised(_MOST)
    result = budget.plan(plenty)
    if stands(obstacle_in(result, demand_id)):
        return None
    launches = [a for a in result.actions if isinstance(a, Launch | Start)]
    mine = sum(limit.measure(a.offer) for a in launches if demand_id in a.demand_ids)
    there = sum(
        limit.measure(v.node.offer)
        for v in plenty.state.nodes
        if v.node.state not in (NodeState.GONE, NodeState.STOPPED)
    )
    over = there - limit.value
    enough = max(1, math.ceil(over + sum(limit.measure(a.offer) for a in launches) - 1e-6))
    budget.left -= 1  # set apart for the proof
    _, n = _between(passes, 0, enough, math.ceil(over + mine - 1e-6))
    budget.left += 1
    while not passes(n):  # a plan within tighter limits may be another one
        n = min(n * 2, _MOST)
    return n, answers[n]
