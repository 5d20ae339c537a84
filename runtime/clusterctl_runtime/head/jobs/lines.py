"""The order of the queue: of jobs that ask for the same the first to come, and of what is more urgent before the rest."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from sortedcontainers import SortedDict

from clusterctl.core.model import Shape
from clusterctl.core.order import goes_first, turn
from clusterctl_runtime.head.jobs.asked import GroupKey
from clusterctl_runtime.head.jobs.job import Job


class Line:
    """Queued jobs of one group, in order of arrival. To put one in (or back, at its old place), to take one out wherever it
    stands, and to find its place costs the logarithm of the length."""

    def __init__(self) -> None:
        self._jobs = SortedDict()  # by the jobs' numbers

    def put(self, job: Job) -> None:
        self._jobs[job.seq] = job

    def take(self, job: Job) -> bool:
        """Takes it out wherever it stands; whether it stood here."""
        return self._jobs.pop(job.seq, None) is not None

    def drop_array(self, array_id: str) -> None:
        """All members of an array at once: much cheaper than one by one."""
        self._jobs = SortedDict((seq, job) for seq, job in self._jobs.items() if job.array_id != array_id)

    def place(self, job: Job) -> int:
        """How many stand before it."""
        return self._jobs.bisect_left(job.seq)

    @property
    def first(self) -> Job:
        """The next one; the line must not be empty."""
        return self._jobs.peekitem(0)[1]

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job: Job) -> bool:
        return job.seq in self._jobs


class Lines:
    """All lines that somebody stands in. `groups` are for looking only."""

    def __init__(self) -> None:
        self.groups: dict[GroupKey, Line] = {}
        self._alike: dict[tuple[Shape, int], set[GroupKey]] = {}  # the groups of a kind in which jobs wait

    def put(self, job: Job) -> None:
        """Into the line of its group, at its old place if it had one."""
        line = self.groups.get(job.group)
        if line is None:
            line = self.groups[job.group] = Line()
            self._alike.setdefault(job.group.kind, set()).add(job.group)
        line.put(job)

    def take(self, job: Job) -> None:
        """Takes it out, if it stands anywhere."""
        line = self.groups.get(job.group)
        if line is not None and line.take(job) and not line:
            self._close(job.group)

    def drop_array(self, array_id: str, groups: Iterable[GroupKey]) -> None:
        """All members of an array, out of the lines of these groups."""
        for group in groups:
            line = self.groups.get(group)
            if line is not None:
                line.drop_array(array_id)
                if not line:
                    self._close(group)

    def _close(self, group: GroupKey) -> None:
        del self.groups[group]
        alike = self._alike[group.kind]
        alike.discard(group)
        if not alike:
            del self._alike[group.kind]

    def first_alike(self, shape: Shape, nodes: int) -> Job | None:
        """The next one of those that take the same and differ in nothing but whose they are, priority and arrival."""
        firsts = [self.groups[group].first for group in self._alike.get((shape, nodes), ())]
        return min(firsts, key=lambda job: turn(job.group.priority, job.seq), default=None)

    def before(self, job: Job) -> int:
        """How many queued jobs are more urgent, or as urgent and came earlier."""
        own = job.group.priority
        return sum(
            len(line) if goes_first(group.priority, own) else line.place(job)
            for group, line in self.groups.items()
            if not goes_first(own, group.priority)
        )


def in_order(groups: Mapping[GroupKey, Line], most: Mapping[GroupKey, int]) -> Iterator[Job]:
    """The first jobs of each line, at most `most` of each, in the order of the queue: urgent ones first, then by arrival."""
    heads = (islice(line, most[group]) for group, line in groups.items())
    return heapq.merge(*heads, key=lambda job: turn(job.group.priority, job.seq))
