"""Taking jobs in: accepted means on disk, and nothing of a job is known to anybody before it is.

What comes is reserved by name, written in one transaction, and only then entered into the book and let into the queue. Each
step is done for so many jobs at a time that others have their turn between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from clusterctl.core.errors import BadRequest
from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.jobs.asked import Asked
from clusterctl_runtime.head.jobs.book import JobBook, SubmissionConflict, asked_record
from clusterctl_runtime.head.jobs.job import Job, new_job_id, record_of
from clusterctl_runtime.head.jobs.requests import MAX_ARRAY, JobRequest
from clusterctl_runtime.head.storage.events import EventLog
from clusterctl_runtime.head.storage.store import Store, StoreUnavailable, statement
from clusterctl_runtime.head.turns import in_turns


class Arrival(NamedTuple):
    """The jobs of one request: those of an array, or a single one."""

    asked: Asked
    ids: Sequence[str]
    array_id: str = ""
    indices: Sequence[int | None] = (None,)


class Intake:
    def __init__(self, book: JobBook, store: Store, events: EventLog) -> None:
        self._book = book
        self._store = store
        self._events = events
        self._coming: dict[str, asyncio.Future[None]] = {}  # names of jobs and arrays that are on their way to the disk

    async def settled(self, names: Callable[[], Iterable[str]]) -> None:
        """Returns when none of `names` is on its way: each is a job's or an array's, or nobody's."""
        while self._coming and (coming := {self._coming[name] for name in names() if name in self._coming}):
            await asyncio.wait(coming)

    @contextmanager
    def reserved(self, names: Collection[str]) -> Iterator[None]:
        """Others who name these wait in `settled` until the block is left."""
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._coming.update(dict.fromkeys(names, over))
        try:
            yield
        finally:
            for name in names:
                del self._coming[name]
            over.set_result(None)

    async def take(self, requests: Sequence[JobRequest]) -> tuple[list[Job], bool]:
        """Takes all of `requests` or none: (their jobs in order, whether any is new). On disk when it returns. The caller has
        waited until what they name is settled, and has not waited since."""
        arrivals = self._arrivals(requests)
        found = {i: job for arrival in arrivals for i in arrival.ids if (job := self._book.jobs.get(i))}
        new = {job_id for arrival in arrivals for job_id in arrival.ids if job_id not in found}
        if new:
            with self.reserved(new | {arrival.array_id for arrival in arrivals if arrival.array_id}):
                jobs = await self._bring_in(arrivals, new)
            found.update((job.id, job) for job in jobs)
        return [found[job_id] for arrival in arrivals for job_id in arrival.ids], bool(new)

    def _arrivals(self, requests: Sequence[JobRequest]) -> list[Arrival]:
        count = sum(len(request.array) if request.array is not None else 1 for request in requests)
        if count > MAX_ARRAY:
            raise BadRequest(f"these are {count:,} jobs: submit at most {MAX_ARRAY:,} at a time")
        alike: dict[str, Asked] = {}
        arrivals = [self._arrival(request, alike) for request in requests]
        if len(arrivals) > 1:
            _refuse_clashes(arrivals)
        return arrivals

    def _arrival(self, request: JobRequest, alike: dict[str, Asked]) -> Arrival:
        """A name stands for one thing: the same name with other contents is refused."""
        asked = self._book.asked(request.model_dump(exclude={"array"}))
        asked = alike.setdefault(asked.digest, asked)
        given, array = request.submission_id or new_job_id(), request.array
        if array is None:
            arrival = Arrival(asked, [given])
        else:
            arrival = Arrival(asked, [member_id(given, index) for index in array], given, array)
        known = (self._book.jobs[job_id] for job_id in arrival.ids if job_id in self._book.jobs)
        taken = given in (self._book.gate.arrays if array is None else self._book.jobs)
        if taken or any(job.asked is not asked or job.array_id != arrival.array_id for job in known):
            raise _conflict(given)
        return arrival

    async def _bring_in(self, arrivals: Sequence[Arrival], new: set[str]) -> list[Job]:
        every = list({arrival.asked.digest: arrival.asked for arrival in arrivals}.values())
        for asked in every:
            self._book.hold(asked)
        jobs: list[Job] = []
        numbers = self._book.number(len(new))
        statements = [asked_record(asked) for asked in every]
        async for part in in_turns(_jobs_of(arrivals, new, numbers)):
            jobs += part
            statements += [record_of(job) for job in part]
        self._store.write_together(statements)
        try:
            await self._store.flush()
        except StoreUnavailable:
            self._take_back(numbers, every)
            raise
        await self._let_in(jobs)
        for asked in every:
            self._book.let_go(asked)
        return jobs

    def _take_back(self, numbers: range, every: Sequence[Asked]) -> None:
        """Nobody was told of these jobs, and nothing of them is to come true when the disk has room again."""
        for asked in every:
            self._book.let_go(asked)
        drop = statement("DELETE FROM jobs WHERE seq BETWEEN ? AND ?", (numbers[0], numbers[-1]))
        self._store.write_together([drop, *self._book.dropping([asked.digest for asked in every])])

    async def _let_in(self, jobs: Sequence[Job]) -> None:
        """All are entered before the first is admitted: a job may follow one that stands behind it in its batch."""
        async for part in in_turns(jobs):
            for job in part:
                self._book.enter(job)
        async for part in in_turns(jobs):
            for job in part:
                self._book.admit(job)
        self._tell(jobs)

    def _tell(self, jobs: Sequence[Job]) -> None:
        first = jobs[0]
        if len(jobs) == 1:
            self._events.add("job", first.id, "submitted", f"{first.name} was submitted ({first.shape.resources})")
        else:
            text = f"{len(jobs)} jobs were submitted ({first.shape.resources} each)"
            self._events.add("job", first.array_id or first.id, "submitted", text)


def member_id(array_id: str, index: int) -> str:
    return f"{array_id}.{index}"


def _jobs_of(arrivals: Iterable[Arrival], new: set[str], numbers: Iterable[int]) -> Iterator[Job]:
    """Each of `new` once, in order."""
    left, seqs = set(new), iter(numbers)
    for arrival in arrivals:
        for job_id, index in zip(arrival.ids, arrival.indices, strict=True):
            if job_id in left:
                left.discard(job_id)
                now = steady_time()
                job = Job(job_id, next(seqs), arrival.asked, submitted=now, queued_since=now)
                job.array_id, job.array_index = arrival.array_id, index
                yield job


def _refuse_clashes(arrivals: Sequence[Arrival]) -> None:
    """One batch may name a job twice, as long as it is the same one."""
    owners: dict[str, tuple[Asked, str]] = {}
    for asked, ids, array_id, _ in arrivals:
        for job_id in ids:
            if owners.setdefault(job_id, (asked, array_id)) != (asked, array_id):
                raise _conflict(job_id)
    if both := {arrival.array_id for arrival in arrivals} & owners.keys():
        raise _conflict(min(both))


def _conflict(name: str) -> SubmissionConflict:
    return SubmissionConflict(
        f"submission id {name!r} already names a job with other contents: choose another id, or leave it out"
    )
