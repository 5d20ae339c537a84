"""What users ask of the queue: to take jobs in, to cancel them, to repeat them. Answered once it is on disk."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Callable, Container, Iterable, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import chain

from clusterctl.core.errors import BadRequest, Refused
from clusterctl.spec.model import ClusterSpec
from clusterctl.spec.network import has_engine
from clusterctl_runtime.head.config import HeadConfig
from clusterctl_runtime.head.jobs.arrays import Array, Failure
from clusterctl_runtime.head.jobs.asked import parse_condition
from clusterctl_runtime.head.jobs.attempts import Work
from clusterctl_runtime.head.jobs.book import JobBook
from clusterctl_runtime.head.jobs.intake import Intake, member_id
from clusterctl_runtime.head.jobs.job import Job, record_of
from clusterctl_runtime.head.jobs.requests import JobRequest
from clusterctl_runtime.head.storage.blobs import BlobStore
from clusterctl_runtime.head.storage.events import EventLog
from clusterctl_runtime.head.storage.store import Store, StoreUnavailable
from clusterctl_runtime.head.turns import in_turns

CANCELLED = "cancelled by request"
AS_NEW = {"state": "queued", "ended": None, "exit_code": None, "retries_used": 0, "losses": 0}
SHOWN_OF_CIRCLE = 8


class Queue:
    def __init__(
        self,
        config: Callable[[], HeadConfig],
        book: JobBook,
        work: Work,
        store: Store,
        blobs: BlobStore,
        events: EventLog,
        arrived: Callable[[], None],
    ) -> None:
        self._config = config
        self._book = book
        self._work = work
        self._store = store
        self._blobs = blobs
        self._events = events
        self._intake = Intake(book, store, events)
        self._arrived = arrived
        self.closed = ""  # why nothing is taken in any more

    @property
    def arriving(self) -> bool:
        """Whether something is being taken in, or tried again, that is not in the book yet."""
        return self._intake.busy

    async def submit(self, requests: Sequence[JobRequest]) -> tuple[list[Job], bool]:
        """Takes all of `requests` or none; returns the jobs in order and whether any is new. On disk when it returns."""
        await self._intake.settled(*named_by(requests))
        if self.closed:
            raise Refused(f"this cluster takes no jobs any more: {self.closed}")
        batch = Names(requests)
        for request in requests:
            self.check(request, batch)
        self._check_packages({request.package for request in requests})
        refuse_circles(requests, batch)
        # Once it is on disk all of it must come into the queue, whatever becomes of the connection that asked for it.
        jobs, created = await asyncio.shield(self._intake.take(requests))
        if created:
            self._arrived()
        return jobs, created

    def check(self, request: JobRequest, batch: Container[str] = ()) -> None:
        """Raises BadRequest for what this cluster could never run. `batch`: the names that come with it, which it may wait
        for."""
        spec = self._config().spec
        names = [pool.name for pool in spec.pools]
        if request.pool and request.pool not in names:
            close = difflib.get_close_matches(request.pool, names, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"this cluster has: {', '.join(names) or 'none'}"
            raise BadRequest(f"no pool {request.pool!r}: {hint}")
        if request.needs_engine:
            _check_engine(spec, request)
        if request.driver and spec.ray is None:
            raise BadRequest("this cluster has no engine, so it runs no drivers: submit without `driver`")
        if request.array_limit is not None and request.array is None:
            raise BadRequest("`array_limit` bounds the jobs of an array: give `array`, or leave it out")
        if not self._book.gate.knows(request.submission_id):  # else it was checked when it came first
            self._check_conditions(request, batch)
        if request.array is not None and len(set(request.array)) != len(request.array):
            raise BadRequest("an array index is given twice")

    def _check_packages(self, digests: Iterable[str]) -> None:
        for digest in digests:
            if digest and not self._blobs.has(digest):
                raise BadRequest(f"the package {digest} is not on this head: PUT /api/v1/blobs/{digest} first")

    def _check_conditions(self, request: JobRequest, batch: Container[str]) -> None:
        gate = self._book.gate
        for text in request.after:
            condition = parse_condition(text)
            if condition.job == request.submission_id or not (gate.knows(condition.job) or condition.job in batch):
                raise BadRequest(
                    f"there is no job {condition.job!r} to wait for: `clusterctl jobs` lists those that are known"
                )
            bad = gate.failed(condition.job) if condition.ok else None
            if bad is not None:
                again = "" if bad.forgotten else f"Try that one again (`clusterctl job retry {bad.id}`), or write"
                raise BadRequest(
                    f"it is to follow {condition.job}, {_which(bad, condition.job)} {bad.text}: it would never start. "
                    f"{again or 'Write'} {condition.job}:any"
                )

    async def cancel(self, name: str) -> list[Job]:
        """Cancels a job, or all members of an array."""
        await self._intake.settled([name])
        array = self._book.gate.arrays.get(name) if name not in self._book.jobs else None
        if array is None:
            jobs = [self._book.get(name)]
            self._work.cancel(jobs[0])
        else:
            jobs = await self._cancel_array(array)
        await self._store.flush()
        self._arrived()
        return jobs

    async def _cancel_array(self, array: Array) -> list[Job]:
        """None of it starts from the first moment; then one after the other is cancelled."""
        self._book.withdraw(array, CANCELLED)
        jobs: list[Job] = []
        waited = 0
        try:
            async for part in in_turns(self._book.members(array)):
                jobs += part
                for job in part:
                    if job.state == "queued":
                        self._book.move(job, "cancelled", CANCELLED)
                        waited += 1
                    else:
                        self._work.cancel(job, CANCELLED)
        finally:
            self._book.reopen(array)
        if waited:
            self._events.add(
                "job", array.id, "cancelled", f"{waited} jobs of {array.id} were cancelled while they waited"
            )
        return jobs

    async def retry(self, job_id: str) -> Job:
        """Queues a job that has ended once more. That it is wanted again is on disk before anything starts."""
        await self._intake.settled([job_id])
        if self.closed:
            raise Refused(f"this cluster runs no jobs any more: {self.closed}")
        job = self._book.get(job_id)
        if not job.final:
            raise Refused(f"job {job_id} is {job.state}: only a job that has ended can be tried again")
        before = record_of(job)
        with self._intake.reserved([job_id]):
            self._store.write_together([record_of(job, **AS_NEW)])
            try:
                await self._store.flush()
            except StoreUnavailable:
                self._store.write_together([before])
                raise
            self._work.rerun(self._book.get(job_id))
        self._arrived()
        return job


def named_by(requests: Iterable[JobRequest]) -> tuple[set[str], set[str]]:
    """(Names of jobs and arrays: what comes, and what it is to follow; those of them that come as arrays)."""
    names = {request.submission_id for request in requests if request.submission_id}
    names.update(parse_condition(text).job for request in requests for text in request.after)
    return names, {request.submission_id for request in requests if request.submission_id and request.array is not None}


class Names:
    """The names that come with these requests: of jobs, of arrays and of their members. Nobody lists 100,000 members to find
    out whether one of them is meant."""

    def __init__(self, requests: Iterable[JobRequest]) -> None:
        self._given: dict[str, list[Sequence[int]]] = {}
        for request in requests:
            if request.submission_id:
                self._given.setdefault(request.submission_id, []).append(request.array or ())
        self._indices: dict[str, frozenset[int]] = {}

    def __contains__(self, name: object) -> bool:
        return self.owner(str(name)) is not None

    def owner(self, name: str) -> str | None:
        """The submission id of the request that brings a job or an array of that name."""
        if name in self._given:
            return name
        array, _, index = name.rpartition(".")
        if array not in self._given or not index.isdecimal() or member_id(array, int(index)) != name:
            return None
        if array not in self._indices:
            self._indices[array] = frozenset(chain.from_iterable(self._given[array]))
        return array if int(index) in self._indices[array] else None


def _check_engine(spec: ClusterSpec, request: JobRequest) -> None:
    """Raises BadRequest for a job that needs the engine where it would never run."""
    if spec.ray is None:
        raise BadRequest("this cluster has no engine: submit without `needs_engine`")
    pool = next((pool for pool in spec.pools if pool.name == request.pool), None)
    if not has_engine(spec, pool):
        raise BadRequest(
            f"pool {request.pool!r} serves queue jobs only: it is not in the head's network, where the engine runs. Name another "
            "pool, or submit without `needs_engine`"
        )


def refuse_circles(requests: Sequence[JobRequest], batch: Names) -> None:
    """Raises BadRequest for jobs of one batch that wait for each other. What came before can wait for none of them."""
    graph = {
        request.submission_id: [owner for text in request.after if (owner := batch.owner(parse_condition(text).job))]
        for request in requests
        if request.submission_id and request.after
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = error.args[1][::-1]  # each is named before the one that it waits for
        raise BadRequest(
            f"these jobs wait for each other, so none of them could ever start: {_chain(circle)}"
        ) from None


def _chain(circle: Sequence[str]) -> str:
    shown = circle if len(circle) <= SHOWN_OF_CIRCLE else [*circle[: SHOWN_OF_CIRCLE - 1], "...", circle[-1]]
    return " after ".join(shown)


def _which(bad: Failure, name: str) -> str:
    return "which" if bad.id == name else f"of which {bad.id}"
