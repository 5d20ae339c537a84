"""How many more nodes may be launched, and which rule stands in the way: limits as admission control.

Every node that is not gone or stopped counts, also one that is failing or being terminated: it may still cost money.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from clusterctl.core.lifetime import moment
from clusterctl.core.model import Node, NodeState, Offer, Policy, Pool, Reason, State
from clusterctl.core.resources import UNIT

CENT = 1e-6  # prices are sums of decimal fractions: compare with this tolerance


def day_ends(now: float) -> float:
    """The next midnight UTC, in the same unix seconds as `now`."""
    return now - now % 86400.0 + 86400.0


def month_ends(now: float) -> float:
    """The first moment of the next month, UTC."""
    at = datetime.fromtimestamp(now, timezone.utc)
    first = (at.replace(day=1, hour=0, minute=0, second=0, microsecond=0) + timedelta(days=32)).replace(day=1)
    return first.timestamp()


def budget_rate(left: float, seconds: float) -> float:
    """The $/h that `left` dollars can pay for the rest of the period, looking one hour ahead at most."""
    return max(left, 0.0) / max(min(seconds, 3600.0) / 3600.0, 1e-3)


def breaker_until(policy: Policy, failures: Sequence[tuple[str, float]], pool: str, now: float) -> float | None:
    """When the breaker of `pool` closes again; None while it is closed."""
    window = policy.breaker_window
    recent = sorted(at for name, at in failures if name == pool and at <= now < at + window)
    return recent[-policy.breaker_failures] + window if len(recent) >= policy.breaker_failures else None


@dataclass
class Allowance:
    """What is still allowed while a plan is being made; `take` uses it up.

    `until` is when a limit that is in force now loosens by itself (launch rate, breaker, budget), else None.
    """

    policy: Policy
    state: State
    now: float
    pools: dict[str, Pool] = field(default_factory=dict[str, Pool])
    nodes: int = 0
    gpus: int = 0
    price: float = 0.0
    pool_nodes: dict[str, int] = field(default_factory=dict[str, int])
    pool_price: dict[str, float] = field(default_factory=dict[str, float])
    launches: int = 0
    paced: bool = True  # whether the limit of launches per minute counts: not for a gang that gets a minute to itself
    held_for: str = ""  # the gang that what is left of this minute is held for
    _budgets: list[tuple[str, float, float]] = field(default_factory=list[tuple[str, float, float]])

    @classmethod
    def of(cls, policy: Policy, state: State, live: Sequence[Node], now: float) -> Allowance:
        """`live` are the records. All count but those that are gone or stopped."""
        self = cls(policy, state, now, {pool.name: pool for pool in state.pools})
        for node in live:
            if node.state not in (NodeState.GONE, NodeState.STOPPED):
                self._count(node.offer, 1)
        self.launches = sum(1 for at in state.launches if at <= now < at + 60.0)
        limits, spend = state.limits, state.spend
        if limits.budget_per_day is not None:
            rate = budget_rate(limits.budget_per_day - spend.today, day_ends(now) - now)
            self._budgets.append(("budget_per_day", rate, limits.budget_per_day))
        if limits.budget_per_month is not None:
            rate = budget_rate(limits.budget_per_month - spend.month, month_ends(now) - now)
            self._budgets.append(("budget_per_month", rate, limits.budget_per_month))
        return self

    def copy(self) -> Allowance:
        """An independent copy, to try something out."""
        twin = Allowance(self.policy, self.state, self.now, self.pools, self.nodes, self.gpus, self.price)
        twin.pool_nodes, twin.pool_price = dict(self.pool_nodes), dict(self.pool_price)
        twin.launches, twin._budgets = self.launches, self._budgets
        twin.paced, twin.held_for = self.paced, self.held_for
        return twin

    def for_whole(self, *, regardless: bool = False) -> Allowance:
        """A copy to serve one gang from, which is bought whole: in a minute without another launch it may be larger than
        the limit of launches per minute. `regardless` of the minute: to ask whether only that limit is in its way."""
        twin = self.copy()
        if self.state.limits.launches_per_minute and (regardless or not self.launches):
            twin.paced = False
        return twin

    def hold_minute(self, what: str) -> None:
        """Nothing more is launched until the minute is over: or small launches would starve a gang that needs many."""
        self.launches = max(self.launches, self.state.limits.launches_per_minute or 0)
        self.held_for = self.held_for or what

    def become(self, other: Allowance) -> None:
        """Takes over what `other`, a copy of this one, has used up."""
        self.nodes, self.gpus, self.price, self.launches = other.nodes, other.gpus, other.price, other.launches
        self.pool_nodes, self.pool_price = other.pool_nodes, other.pool_price

    def take(self, offer: Offer, n: int) -> None:
        """Counts `n` nodes of `offer` against every limit, as launches of this minute too."""
        self._count(offer, n)
        self.launches += n

    def most(self, offer: Offer) -> int:
        """How many more nodes of `offer` every limit allows."""
        return min((n for _, n in self._room(offer)), default=1 << 30)

    def obstacle(self, offer: Offer) -> Reason | None:
        """The limit that forbids one more node of `offer`, with what would loosen it; None if it is allowed."""
        for code, n in self._room(offer):
            if n <= 0:
                return self._reason(code, offer)
        return None

    def loosens_at(self, code: str) -> float | None:
        """When the limit of that code loosens by itself."""
        if code == "launch_rate":
            recent = sorted(at for at in self.state.launches if at <= self.now < at + 60.0)
            return recent[0] + 60.0 if recent else self.now + 60.0
        if code == "budget_per_day":
            return day_ends(self.now)
        if code == "budget_per_month":
            return month_ends(self.now)
        if code == "breaker_open":
            ends = [end for pool in self.pools if (end := self.breaker_until(pool)) is not None]
            return min(ends, default=None)
        return None

    def breaker_until(self, pool: str) -> float | None:
        """When the breaker of `pool` closes again; None while it is closed."""
        return breaker_until(self.policy, self.state.failures, pool, self.now)

    def _count(self, offer: Offer, n: int) -> None:
        self.nodes += n
        self.gpus += n * offer.resources.units.get("GPU", 0)
        self.price += n * offer.price
        self.pool_nodes[offer.pool] = self.pool_nodes.get(offer.pool, 0) + n
        self.pool_price[offer.pool] = self.pool_price.get(offer.pool, 0.0) + n * offer.price

    def _room(self, offer: Offer) -> list[tuple[str, int]]:
        """(code, how many more) of every limit that applies, the most telling first."""
        pool = self.pools[offer.pool]
        limits = self.state.limits
        room = [("pool_max", pool.max - self.pool_nodes.get(pool.name, 0))]
        if self.breaker_until(pool.name) is not None:
            room.append(("breaker_open", 0))
        if limits.nodes is not None:
            room.append(("nodes_limit", limits.nodes - self.nodes))
        gpus = offer.resources.units.get("GPU", 0)
        if limits.gpus is not None and gpus:
            room.append(("gpus_limit", (round(limits.gpus * UNIT) - self.gpus) // gpus))
        if pool.max_cost_per_hour is not None:
            left = pool.max_cost_per_hour - self.pool_price.get(pool.name, 0.0)
            room.append(("pool_cost_limit", _affordable(left, offer.price)))
        if limits.cost_per_hour is not None:
            room.append(("cost_limit", _affordable(limits.cost_per_hour - self.price, offer.price)))
        for code, rate, _ in self._budgets:
            room.append((code, _affordable(rate - self.price, offer.price)))
        if limits.launches_per_minute is not None and self.paced:
            room.append(("launch_rate", limits.launches_per_minute - self.launches))
        return room

    def _reason(self, code: str, offer: Offer) -> Reason:
        pool, limits = self.pools[offer.pool], self.state.limits
        if code == "pool_max":
            have = self.pool_nodes.get(pool.name, 0)
            return Reason(
                code,
                f"pool {pool.name} has {have} of at most {pool.max} nodes",
                f"raise max of pool {pool.name} from {pool.max} to {max(have, pool.max) + 1}",
                (("pool", pool.name),),
            )
        if code == "breaker_open":
            return self._paused(pool)
        if code == "launch_rate":
            if self.held_for:
                text = f"the launches of this minute are kept for {self.held_for}"
                return Reason(code, text, "raise limits.launches_per_minute, or wait")
            return Reason(
                code,
                f"{limits.launches_per_minute} nodes were launched within a minute, as many as are allowed",
                "raise limits.launches_per_minute, or wait",
            )
        return self._money_or_count(code, offer)

    def _paused(self, pool: Pool) -> Reason:
        """With the last refusal in its own words, and how long the breaker is open still."""
        until = self.breaker_until(pool.name) or self.now
        minutes = math.ceil((until - self.now) / 60)
        text = (
            f"pool {pool.name} failed to launch {self.policy.breaker_failures} times within "
            f"{self.policy.breaker_window / 60:.0f} min, so launching is paused for {minutes} min more (until {moment(until)})"
        )
        last = next((one for one in self.state.last_failures if one.pool == pool.name), None)
        if last is not None:
            text += f"; last, at {moment(last.at)}, {pool.provider} {last.machine} failed: {last.text}"
        fix = f"see `clusterctl events` for the failures of pool {pool.name}; `clusterctl up` with its spec tries again at once"
        return Reason("breaker_open", text, fix, (("pool", pool.name), ("until", f"{until:.0f}")))

    def _money_or_count(self, code: str, offer: Offer) -> Reason:
        pool, limits = self.pools[offer.pool], self.state.limits
        after = self.price + offer.price
        if code == "nodes_limit":
            text = f"the cluster has {self.nodes} of at most {limits.nodes} nodes"
            return Reason(code, text, f"raise limits.nodes from {limits.nodes} to {self.nodes + 1}")
        if code == "gpus_limit":
            gpus = (self.gpus + offer.resources.units.get("GPU", 0)) / UNIT
            text = f"the cluster has {self.gpus / UNIT:g} of at most {limits.gpus:g} GPUs"
            return Reason(code, text, f"raise limits.gpus from {limits.gpus:g} to {gpus:g}")
        if code == "pool_cost_limit":
            cost = self.pool_price.get(pool.name, 0.0) + offer.price
            text = f"one more node of pool {pool.name} would cost {cost:.2f} $/h in all, over its limit"
            fix = f"raise the pool's cost limit from {pool.max_cost_per_hour:g} to {cost:.2f}"
            return Reason(code, text, fix, (("pool", pool.name),))
        if code == "cost_limit":
            text = f"one more {offer.instance_type} would make the cluster cost {after:.2f} $/h, over its limit"
            return Reason(code, text, f"raise limits.cost_per_hour from {limits.cost_per_hour:g} to {after:.2f}")
        period = "day" if code == "budget_per_day" else "month"
        spent = self.state.spend.today if period == "day" else self.state.spend.month
        amount = next(total for name, _, total in self._budgets if name == code)
        text = f"{spent:.2f} of {amount:g} $ of this {period}'s budget is spent: too little is left for {after:.2f} $/h"
        return Reason(code, text, f"raise limits.budget.per_{period}, or wait for the next {period}")


def _affordable(left: float, price: float) -> int:
    if price <= 0:
        return 1 << 30
    return max(0, math.floor((left + CENT) / price))
