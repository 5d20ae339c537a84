"""Taking jobs in: accepted means on disk, and nothing of a job is known to anybody before it is.

What comes is reserved by name, written in one transaction, and only then entered into the book and let into the queue. Each
step is done for so many jobs at a time that others have their turn between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
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

LOOKED_AT_ONCE = 2000  # names in one turn, at a microsecond each


class Arrival(NamedTuple):
    """The jobs of one request: those of an array, or a single one (`indices` is None then)."""

    asked: Asked
    name: str
    indices: Sequence[int] | None = None

    @property
    def array_id(self) -> str:
        """The id of the array; "" for a single job."""
        return self.name if self.indices is not None else ""

    def members(self) -> Iterator[tuple[Arrival, str, int | None]]:
        """(this, job id, index) of each."""
        if self.indices is None:
            yield self, self.name, None
        else:
            yield from ((self, member_id(self.name, index), index) for index in self.indices)


class Intake:
    def __init__(self, book: JobBook, store: Store, events: EventLog) -> None:
        self._book = book
        self._store = store
        self._events = events
        # What is on its way to the disk. A job "a.1" stands under "a.1" and "a.*", an array "a" under "a" and "a.**".
        self._coming: dict[str, set[asyncio.Future[None]]] = {}

    @property
    def busy(self) -> bool:
        """Whether anything is on its way."""
        return bool(self._coming)

    async def settled(self, names: Iterable[str], arrays: Collection[str] = ()) -> None:
        """Returns when none of `names` is on its way: each is a job's or an array's, or nobody's. `arrays`: those of them that
        are to be arrays, of which no member may be on its way either."""
        keys = {key for name in names for key in (name, f"{name.rpartition('.')[0]}.**")}
        keys.update(f"{name}.*" for name in arrays)
        while self._coming and (coming := {over for key in keys for over in self._coming.get(key, ())}):
            await asyncio.wait(coming)

    @contextmanager
    def reserved(self, names: Iterable[str]) -> Iterator[None]:
        """Others who name these jobs wait in `settled` until the block is left."""
        leave = self._reserve(names, ())
        try:
            yield
        finally:
            leave()

    def _reserve(self, jobs: Iterable[str], arrays: Iterable[str]) -> Callable[[], None]:
        """Of an array all members at once: there may be 100,000 of them. Returns what ends it."""
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        keys = {key for name in jobs for key in (name, f"{name.rpartition('.')[0]}.*")}
        keys.update(key for name in arrays for key in (name, f"{name}.**"))
        for key in keys:
            self._coming.setdefault(key, set()).add(over)

        def leave() -> None:
            for key in keys:
                self._coming[key].discard(over)
                if not self._coming[key]:
                    del self._coming[key]
            over.set_result(None)

        return leave

    def take(self, requests: Sequence[JobRequest]) -> asyncio.Task[tuple[list[Job], bool]]:
        """Takes all of `requests` or none: (their jobs in order, whether any is new). On disk when it is done. The caller has
        waited until what they name is settled, and has not waited since: the names are reserved when this returns."""
        arrivals = self._arrivals(requests)
        every = list({arrival.asked.digest: arrival.asked for arrival in arrivals}.values())
        for asked in every:
            self._book.hold(asked)
        leave = self._reserve((a.name for a in arrivals if not a.array_id), (a.name for a in arrivals if a.array_id))

        def over(_: object) -> None:
            for asked in every:
                self._book.let_go(asked)
            leave()

        task = asyncio.get_running_loop().create_task(self._take(arrivals, every))
        task.add_done_callback(over)
        return task

    async def _take(self, arrivals: Sequence[Arrival], every: Sequence[Asked]) -> tuple[list[Job], bool]:
        order: list[Job | str] = []  # jobs that are known already, and ids of those that are not
        new: dict[str, tuple[Arrival, int | None]] = {}
        async for part in in_turns(chain.from_iterable(arrival.members() for arrival in arrivals), LOOKED_AT_ONCE):
            for arrival, job_id, index in part:
                order.append(self._look(arrival, job_id, index, new))
        made = await self._bring_in(new, every) if new else {}
        jobs: list[Job] = []
        async for some in in_turns(order, LOOKED_AT_ONCE):
            jobs += [made[job] if isinstance(job, str) else job for job in some]
        return jobs, bool(new)

    def _look(
        self, arrival: Arrival, job_id: str, index: int | None, new: dict[str, tuple[Arrival, int | None]]
    ) -> Job | str:
        """The job of that name, or else the name, which is among the new ones then. A name stands for one thing: the same name
        with other contents is refused. One batch may name a job twice, as long as it is the same one."""
        known = self._book.jobs.get(job_id)
        if known is not None:
            if known.asked is not arrival.asked or known.array_id != arrival.array_id:
                raise _conflict(arrival.name)
            return known
        first, _ = new.setdefault(job_id, (arrival, index))
        if (first.asked, first.array_id) != (arrival.asked, arrival.array_id):
            raise _conflict(job_id)
        return job_id

    def _arrivals(self, requests: Sequence[JobRequest]) -> list[Arrival]:
        count = sum(len(request.array) if request.array is not None else 1 for request in requests)
        if count > MAX_ARRAY:
            raise BadRequest(f"these are {count:,} jobs: submit at most {MAX_ARRAY:,} at a time")
        alike: dict[str, Asked] = {}
        arrivals = [self._arrival(request, alike) for request in requests]
        if both := {a.name for a in arrivals if a.array_id} & {a.name for a in arrivals if not a.array_id}:
            raise _conflict(min(both))
        return arrivals

    def _arrival(self, request: JobRequest, alike: dict[str, Asked]) -> Arrival:
        asked = self._book.asked(request.model_dump(exclude={"array"}))
        asked = alike.setdefault(asked.digest, asked)
        given, array = request.submission_id or new_job_id(), request.array
        if given in (self._book.gate.arrays if array is None else self._book.jobs):
            raise _conflict(given)
        return Arrival(asked, given, array)

    async def _bring_in(self, new: dict[str, tuple[Arrival, int | None]], every: Sequence[Asked]) -> dict[str, Job]:
        """By id."""
        jobs: dict[str, Job] = {}
        numbers = self._book.number(len(new))
        statements = [asked_record(asked) for asked in every]
        async for part in in_turns(zip(new.items(), numbers, strict=True)):
            for (job_id, (arrival, index)), number in part:
                now = steady_time()
                job = Job(job_id, number, arrival.asked, submitted=now, queued_since=now)
                job.array_id, job.array_index = arrival.array_id, index
                jobs[job_id] = job
                statements.append(record_of(job))
        self._store.write_together(statements)
        try:
            await self._store.flush()
        except StoreUnavailable:
            self._take_back(numbers, every)
            raise
        await self._let_in(jobs.values())
        return jobs

    def _take_back(self, numbers: range, every: Sequence[Asked]) -> None:
        """Nobody was told of these jobs, and nothing of them is to come true when the disk has room again."""
        drop = statement("DELETE FROM jobs WHERE seq BETWEEN ? AND ?", (numbers[0], numbers[-1]))
        unused = [statement("DELETE FROM requests WHERE digest = ?", (a.digest,)) for a in every if a.uses == 1]
        self._store.write_together([drop, *unused])

    async def _let_in(self, jobs: Collection[Job]) -> None:
        """All are entered before the first is admitted: a job may follow one that stands behind it in its batch."""
        async for part in in_turns(jobs):
            for job in part:
                self._book.enter(job)
        async for part in in_turns(jobs):
            for job in part:
                self._book.admit(job)
        self._tell(jobs)

    def _tell(self, jobs: Collection[Job]) -> None:
        first = next(iter(jobs))
        if len(jobs) == 1:
            self._events.add("job", first.id, "submitted", f"{first.name} was submitted ({first.shape.resources})")
        else:
            text = f"{len(jobs)} jobs were submitted ({first.shape.resources} each)"
            self._events.add("job", first.array_id or first.id, "submitted", text)


def member_id(array_id: str, index: int) -> str:
    """ "ARRAY.INDEX"."""
    return f"{array_id}.{index}"


def _conflict(name: str) -> SubmissionConflict:
    return SubmissionConflict(
        f"submission id {name!r} already names a job with other contents: choose another id, or leave it out"
    )
