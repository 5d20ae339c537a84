"""What nodes cost: dollars per pool and day (UTC), from when billing began to when the node was gone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from clusterctl.core.model import Spend

DAY = 86_400.0


@dataclass(frozen=True)
class CostRow:
    """Node hours and dollars of one pool on one day ("2026-01-31", UTC)."""

    day: str
    pool: str
    hours: float
    dollars: float


@dataclass
class Ledger:
    """Sums of stays. Keys are (day number since 1970, pool)."""

    hours: dict[tuple[int, str], float] = field(default_factory=dict)
    dollars: dict[tuple[int, str], float] = field(default_factory=dict)
    by_day: dict[int, float] = field(default_factory=dict)  # dollars of all pools
    by_pool: dict[str, float] = field(default_factory=dict)  # dollars of all days
    total: float = 0.0

    def add(self, pool: str, price: float, start: float, end: float) -> None:
        """Books a stay from `start` to `end` (unix seconds) at `price` $/h."""
        for day, seconds in per_day(start, end):
            self.add_part(pool, price, day, seconds)

    def add_part(self, pool: str, price: float, day: int, seconds: float) -> None:
        """Books a part of a day (number since 1970)."""
        self.add_sum(pool, day, seconds / 3600, seconds / 3600 * price)

    def add_sum(self, pool: str, day: int, hours: float, dollars: float) -> None:
        """`day` counts from 1970, UTC."""
        key = (day, pool)
        self.hours[key] = self.hours.get(key, 0.0) + hours
        self.dollars[key] = self.dollars.get(key, 0.0) + dollars
        self.by_day[day] = self.by_day.get(day, 0.0) + dollars
        self.by_pool[pool] = self.by_pool.get(pool, 0.0) + dollars
        self.total += dollars

    def copy(self) -> Ledger:
        """Another that shares nothing with this one."""
        return Ledger(dict(self.hours), dict(self.dollars), dict(self.by_day), dict(self.by_pool), self.total)

    def rows(self) -> list[CostRow]:
        """One for each day and pool, in this order."""
        return [
            CostRow(_date(day), pool, self.hours[day, pool], self.dollars[day, pool])
            for day, pool in sorted(self.hours)
        ]

    def month(self, now: float) -> float:
        """Dollars of the calendar month up to and with today."""
        today = int(now // DAY)
        first = today - time.gmtime(now).tm_mday + 1
        return sum(self.by_day.get(day, 0.0) for day in range(first, today + 1))


@dataclass
class _Running:
    """All stays of one pool that have not ended. Times are seconds since `Meter`'s midnight, so that the sums stay exact."""

    stays: int = 0
    begun: float = 0.0  # the sum of their beginnings
    rate: float = 0.0  # $/h together
    rate_begun: float = 0.0  # the sum of price x beginning

    def count(self, price: float, begun: float, sign: int) -> None:
        """`sign` is 1 for a stay that begins, and -1, with the same price and beginning, for one that has ended."""
        self.stays += sign
        self.begun += sign * begun
        self.rate += sign * price
        self.rate_begun += sign * price * begun

    def until(self, moment: float) -> tuple[float, float]:
        """(hours, dollars) up to `moment`."""
        hours = (self.stays * moment - self.begun) / 3600
        return max(0.0, hours), max(0.0, (self.rate * moment - self.rate_begun) / 3600)


class Meter:
    """What nodes have cost up to any moment from today's midnight on, at a price that grows neither with nodes nor with days:
    what is over is booked, what still runs is kept as a few sums per pool. All that ran yesterday is booked once a day."""

    def __init__(self) -> None:
        self._booked = Ledger()
        self._stays: dict[str, tuple[str, float, float]] = {}  # node id -> pool, $/h, since when; from midnight on
        self._running: dict[str, _Running] = {}
        self._midnight = 0.0

    def begin(self, node_id: str, pool: str, price: float, at: float) -> None:
        """A node is paid for from `at` (unix seconds) on."""
        self._booked.add(pool, price, at, self._midnight)
        at = max(at, self._midnight)
        self._stays[node_id] = (pool, price, at)
        self._running.setdefault(pool, _Running()).count(price, at - self._midnight, 1)

    def end(self, node_id: str, at: float) -> None:
        """Nothing more is paid for it from `at` on."""
        pool, price, begun = self._stays.pop(node_id)
        self._running[pool].count(price, begun - self._midnight, -1)
        if not self._running[pool].stays:
            del self._running[pool]
        self._booked.add(pool, price, begun, at)

    def runs(self, node_id: str) -> bool:
        """Whether the node costs now."""
        return node_id in self._stays

    def add_part(self, pool: str, price: float, day: int, seconds: float) -> None:
        """Books a part of a day of a stay that is over."""
        self._booked.add_part(pool, price, day, seconds)

    def spend(self, now: float) -> Spend:
        """Dollars of the day, the month (both UTC) and in all, with what runs up to `now`."""
        now = self._come_to(now)
        running = sum(sums.until(now - self._midnight)[1] for sums in self._running.values())
        today = self._booked.by_day.get(int(now // DAY), 0.0)
        return Spend(today + running, self._booked.month(now) + running, self._booked.total + running)

    def by_pool(self, now: float) -> dict[str, float]:
        """Dollars of each pool in all, with what runs up to `now`."""
        now, found = self._come_to(now), dict(self._booked.by_pool)
        for pool, sums in self._running.items():
            found[pool] = found.get(pool, 0.0) + sums.until(now - self._midnight)[1]
        return found

    def rows(self, now: float) -> list[CostRow]:
        """As the ledger's, with what runs up to `now`."""
        now = self._come_to(now)
        ledger = self._booked.copy()
        for pool, sums in self._running.items():
            if now > self._midnight:
                ledger.add_sum(pool, int(self._midnight // DAY), *sums.until(now - self._midnight))
        return ledger.rows()

    def _come_to(self, now: float) -> float:
        """Books what ran before today. The day that it has come to is never left again: an earlier `now` counts as its start."""
        midnight = now // DAY * DAY
        if midnight > self._midnight:
            stays, self._stays, self._running, self._midnight = self._stays, {}, {}, midnight
            for node_id, (pool, price, begun) in stays.items():
                self.begin(node_id, pool, price, begun)
        return max(now, self._midnight)


def per_day(start: float, end: float) -> Iterator[tuple[int, float]]:
    """(day number, seconds of it) for a stay; nothing when it ends before it starts (a clock that was set back)."""
    while start < end:
        day = int(start // DAY)
        stop = min(end, (day + 1) * DAY)
        yield day, stop - start
        start = stop


def _date(day: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(day * DAY))
