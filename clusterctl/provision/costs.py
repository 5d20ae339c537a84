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
    """Sums of what has ended; what still runs is added by `rows`. Keys are (day number since 1970, pool)."""

    hours: dict[tuple[int, str], float] = field(default_factory=dict)
    dollars: dict[tuple[int, str], float] = field(default_factory=dict)

    def add(self, pool: str, price: float, start: float, end: float) -> None:
        """Books a stay from `start` to `end` (unix seconds) at `price` $/h."""
        for day, seconds in per_day(start, end):
            self.add_part(pool, price, day, seconds)

    def add_part(self, pool: str, price: float, day: int, seconds: float) -> None:
        """Books a part of a day (number since 1970)."""
        key = (day, pool)
        self.hours[key] = self.hours.get(key, 0.0) + seconds / 3600
        self.dollars[key] = self.dollars.get(key, 0.0) + seconds / 3600 * price

    def copy(self) -> Ledger:
        return Ledger(dict(self.hours), dict(self.dollars))

    def rows(self) -> list[CostRow]:
        return [
            CostRow(_date(day), pool, self.hours[day, pool], self.dollars[day, pool])
            for day, pool in sorted(self.hours)
        ]

    def spend(self, now: float) -> Spend:
        today, month = int(now // DAY), _date(int(now // DAY))[:7]
        return Spend(
            today=sum(v for (day, _), v in self.dollars.items() if day == today),
            month=sum(v for (day, _), v in self.dollars.items() if _date(day)[:7] == month),
            total=sum(self.dollars.values()),
        )


def per_day(start: float, end: float) -> Iterator[tuple[int, float]]:
    """(day number, seconds of it) for a stay; nothing when it ends before it starts (a clock that was set back)."""
    while start < end:
        day = int(start // DAY)
        stop = min(end, (day + 1) * DAY)
        yield day, stop - start
        start = stop


def _date(day: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(day * DAY))
