"""Arrays: how many of their members are in which state, who of them may start, and what is still known of members that
were forgotten."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

from clusterctl_runtime.head.jobs.asked import Asked
from clusterctl_runtime.head.jobs.job import FINAL, Job


class Failure(NamedTuple):
    """A job that ended otherwise than well; `forgotten`: it can be named, but not be tried again."""

    id: str
    name: str
    state: str
    forgotten: bool = False

    @property
    def text(self) -> str:
        """How it ended."""
        return "was cancelled" if self.state == "cancelled" else self.state


@dataclass
class Tally:
    """Of jobs that were forgotten: how many ended in which state, one that did not end well, and what they cost."""

    counts: Counter[str] = field(default_factory=Counter)
    failure: Failure | None = None
    charges: dict[str, tuple[float, float]] = field(
        default_factory=dict
    )  # user -> (hours, dollars), of the cluster only

    def charge(self, user: str, hours: float, dollars: float) -> None:
        """Adds to what the user's jobs took: node hours by share, and dollars."""
        before = self.charges.get(user, (0.0, 0.0))
        self.charges[user] = (before[0] + hours, before[1] + dollars)

    def add(self, job: Job) -> None:
        """A job is forgotten: its state is counted, and one that did not end well is remembered by name."""
        self.counts[job.state] += 1
        if job.state != "succeeded":
            self.failure = Failure(job.id, job.name, job.state, forgotten=True)


@dataclass
class Array:
    """`counts` are of all members that there ever were: none of them changes when one is forgotten. `inside` were let through
    and have not ended; `waiting` are held, in order of arrival; both only where `array_limit` is given."""

    id: str
    counts: Counter[str] = field(default_factory=Counter)
    known: int = 0  # members that are not forgotten
    first: int = 0  # the lowest and the highest of their numbers
    last: int = -1
    asked: set[Asked] = field(default_factory=set)
    failed: dict[str, Job] = field(default_factory=dict)  # ended otherwise than well
    forgotten: Tally = field(default_factory=Tally)
    inside: set[str] = field(default_factory=set)
    waiting: OrderedDict[str, Job] = field(default_factory=OrderedDict)  # its first is found at once, a dict's is not
    ending: str = ""  # why all of it is being cancelled

    def join(self, job: Job) -> None:
        """A member came; any number, in any order."""
        self.first = min(self.first, job.seq) if self.known else job.seq
        self.last = max(self.last, job.seq)
        self.known += 1
        self.asked.add(job.asked)
        self._count(job)

    def move(self, job: Job, before: str) -> None:
        """`job` was in state `before`."""
        self.counts[before] -= 1
        self.failed.pop(job.id, None)
        self._count(job)

    def _count(self, job: Job) -> None:
        self.counts[job.state] += 1
        if job.final and job.state != "succeeded":
            self.failed[job.id] = job

    def forget(self, job: Job) -> None:
        """A member is dropped from memory; no figure of the array changes."""
        self.known -= 1
        self.forgotten.add(job)
        self.failed.pop(job.id, None)

    @property
    def open(self) -> bool:
        """Whether any member has not ended."""
        return sum(self.counts.values()) > sum(self.counts[state] for state in FINAL)

    @property
    def failure(self) -> Failure | None:
        """A member that did not end well, known or forgotten; None where there is none."""
        job = next(iter(self.failed.values()), None)
        return failure_of(job) if job else self.forgotten.failure

    def room(self, job: Job) -> int:
        """How many more its limit lets through. `job` is any member."""
        most = job.asked.array_limit
        return 0 if most is None else most - len(self.inside)

    def has_room(self, job: Job) -> bool:
        """Whether its limit lets this member run."""
        return job.asked.array_limit is None or job.id in self.inside or self.room(job) > 0


def failure_of(job: Job) -> Failure | None:
    """Set when the job ended otherwise than well."""
    return Failure(job.id, job.name, job.state) if job.final and job.state != "succeeded" else None
