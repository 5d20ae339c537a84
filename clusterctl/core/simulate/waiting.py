"""The queue of a simulation: jobs that wait, grouped by what they need, so that a long queue costs what its shapes cost."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import merge

from clusterctl.core.model import Demand, Shape
from clusterctl.core.order import Turn, turn
from clusterctl.core.scheduling.placement import Request
from clusterctl.core.simulate.jobs import TraceJob, demand_of, group_key

Key = tuple[Shape, int, int, str]

_REFS = 3  # jobs named in a demand


@dataclass(frozen=True)
class Ticket:
    """A job in the queue. `number` is its place in the trace; `since` when it began to wait this time."""

    job: TraceJob
    number: int
    since: float

    @property
    def turn(self) -> Turn:
        """Its place in the order of the queue."""
        return turn(self.job.priority, self.job.submit, self.number)

    def request(self) -> Request:
        """As `place` is asked."""
        job = self.job
        return Request(job.id, ((job.shape, job.nodes),), gang=job.nodes > 1, since=self.since)


@dataclass
class _Group:
    """Invariant: `tickets` is sorted by turn. `demand` is None after a change, until asked for again."""

    tickets: list[tuple[Turn, Ticket]] = field(default_factory=list[tuple[Turn, Ticket]])
    demand: Demand | None = None


class WaitingJobs:
    def __init__(self) -> None:
        self._groups: dict[Key, _Group] = {}
        self.count = 0

    def add(self, ticket: Ticket) -> None:
        """Puts it at its place in the order, also one that comes back."""
        key = group_key(ticket.job)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group()
        insort(group.tickets, (ticket.turn, ticket), key=lambda entry: entry[0])
        group.demand = None
        self.count += 1

    def take_first(self, key: Key, count: int) -> None:
        """Takes the first `count` jobs of a group out."""
        group = self._groups[key]
        del group.tickets[:count]
        group.demand = None
        self.count -= count
        if not group.tickets:
            del self._groups[key]

    def in_order(self, without: set[Key]) -> Iterator[tuple[Key, Ticket]]:
        """All waiting jobs in the order of the queue, but for some groups."""
        runs = [_keyed(key, group) for key, group in self._groups.items() if key not in without]
        for _, key, ticket in merge(*runs, key=lambda entry: entry[0]):
            yield key, ticket

    def first(self, key: Key) -> Ticket | None:
        """The next of a group; None when none of it waits."""
        group = self._groups.get(key)
        return group.tickets[0][1] if group else None

    def demands(self) -> tuple[Demand, ...]:
        """What waits, one demand per group, in the order of the queue."""
        found: list[Demand] = []
        for group in sorted(self._groups.values(), key=lambda group: group.tickets[0][0]):
            if group.demand is None:
                first = group.tickets[0][1]
                refs = tuple(ticket.job.id for _, ticket in group.tickets[:_REFS])
                group.demand = demand_of(first.job, len(group.tickets), first.since, refs)
            found.append(group.demand)
        return tuple(found)

    def tickets(self) -> list[Ticket]:
        """All of them, in the order of the queue."""
        return [ticket for _, ticket in self.in_order(set())]


def _keyed(key: Key, group: _Group) -> Iterator[tuple[Turn, Key, Ticket]]:
    return ((at, key, ticket) for at, ticket in group.tickets)
