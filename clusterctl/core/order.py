"""The order of the queue: who is served before whom, for the planner, the dispatcher, `explain` and `simulate` alike.

Higher priority goes first; among equals whoever came first; among those of one instant the smaller number or name. What is
tried again keeps the arrival that it had. The order says who is asked first, not who gets room: what does not fit holds up
nobody (`core.scheduling.placement`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import TypeVar

T = TypeVar("T")
# Sorts as the queue stands. All turns of one queue end alike, in numbers or in names.
Turn = tuple[int, float, int | str]


def turn(priority: int, arrival: float, number: int | str = 0) -> Turn:
    """The turn of work of this priority (higher first) that came at `arrival`: seconds, or any figure that grows with each
    arrival. `number` tells those of one arrival apart."""
    return (-priority, arrival, number)


def levels(items: Iterable[T], priority: Callable[[T], int]) -> Iterator[tuple[int, list[T]]]:
    """(priority, its items in the order given), the most urgent first: each is served before the next one is looked at."""
    ordered = sorted(items, key=lambda item: turn(priority(item), 0.0))
    for _, level in groupby(ordered, key=priority):
        found = list(level)
        yield priority(found[0]), found


def goes_first(one: int, other: int) -> bool:
    """Whether work of priority `one` goes before all work of priority `other`, whenever it came."""
    return turn(one, 0.0) < turn(other, 0.0)
