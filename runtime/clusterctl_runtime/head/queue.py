"""Taking jobs in: accepted means on disk. Cancelling and repeating them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Sequence
from typing import Any

from clusterctl.core.errors import BadRequest, Refused
from clusterctl_runtime.head.blobs import BlobStore
from clusterctl_runtime.head.config import HeadConfig
from clusterctl_runtime.head.events import EventLog
from clusterctl_runtime.head.gate import ended_text, parse_condition
from clusterctl_runtime.head.jobs import Job, JobBook, new_job_id
from clusterctl_runtime.head.requests import JobRequest
from clusterctl_runtime.head.store import Store, StoreUnavailable
from clusterctl_runtime.head.work import Work


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
        self._arrived = arrived
        self.closed = ""  # why nothing is taken in any more

    async def submit(self, requests: Sequence[JobRequest]) -> tuple[list[Job], bool]:
        """Takes all of `requests` or none; returns the jobs in order and whether any is new. On disk when it returns."""
        if self.closed:
            raise Refused(f"this cluster takes no jobs any more: {self.closed}")
        batch = {request.submission_id for request in requests}
        for request in requests:
            self.check(request, batch)
            self._check_package(request)
        bodies = [body for request in requests for body in self._expand(request)]
        created: list[Job] = []
        jobs: list[Job] = []
        try:
            for body, array_id, index in bodies:
                job, new = self._book.add(body, array_id, index)
                jobs.append(job)
                if new:
                    created.append(job)
            self._tell(created)
            await self._store.flush()
        except (StoreUnavailable, Exception):
            self._book.discard(created)
            raise
        if created:
            self._arrived()
        return jobs, bool(created)

    def _tell(self, created: Sequence[Job]) -> None:
        if len(created) == 1:
            job = created[0]
            self._events.add("job", job.id, "submitted", f"{job.name} was submitted ({job.shape.resources})")
        elif created:
            first = created[0]
            subject = first.array_id or first.id
            self._events.add(
                "job", subject, "submitted", f"{len(created)} jobs were submitted ({first.shape.resources} each)"
            )

    def _expand(self, request: JobRequest) -> list[tuple[dict[str, Any], str, int | None]]:
        """The request as stored, or one per index of its array: (body, array id, index)."""
        body = request.model_dump()
        indices = body.pop("array")
        if indices is None:
            return [(body, "", None)]
        array_id = request.submission_id or new_job_id()
        return [({**body, "submission_id": f"{array_id}.{index}"}, array_id, index) for index in indices]

    def check(self, request: JobRequest, batch: Collection[str] = ()) -> None:
        """Raises BadRequest for what this cluster could never run. `batch`: the submission ids that come with it, which it may
        wait for."""
        spec = self._config().spec
        names = [pool.name for pool in spec.pools]
        if request.pool and request.pool not in names:
            close = difflib.get_close_matches(request.pool, names, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"this cluster has: {', '.join(names) or 'none'}"
            raise BadRequest(f"no pool {request.pool!r}: {hint}")
        if request.driver and spec.ray is None:
            raise BadRequest("this cluster has no engine, so it runs no drivers: submit without `driver`")
        if request.array_limit is not None and request.array is None:
            raise BadRequest("`array_limit` bounds the jobs of an array: give `array`, or leave it out")
        if not self._book.gate.knows(request.submission_id):  # else it was checked when it came first
            self._check_conditions(request, batch)
        if request.array is not None and len(set(request.array)) != len(request.array):
            raise BadRequest("an array index is given twice")

    def _check_package(self, request: JobRequest) -> None:
        if request.package and not self._blobs.has(request.package):
            raise BadRequest(
                f"the package {request.package} is not on this head: PUT /api/v1/blobs/{request.package} first"
            )

    def _check_conditions(self, request: JobRequest, batch: Collection[str]) -> None:
        gate = self._book.gate
        for text in request.after:
            condition = parse_condition(text)
            if condition.job == request.submission_id or not (gate.knows(condition.job) or condition.job in batch):
                raise BadRequest(
                    f"there is no job {condition.job!r} to wait for: `clusterctl jobs` lists those that are known"
                )
            bad = gate.failed(condition.job) if condition.ok else None
            if bad is not None:
                raise BadRequest(
                    f"it is to follow {condition.job}, which {ended_text(bad)}: it would never start. Try that one again "
                    f"(`clusterctl job retry {bad.id}`), or write {condition.job}:any"
                )

    async def cancel(self, job_id: str) -> list[Job]:
        """Cancels a job, or all members of an array."""
        jobs = self.members(job_id)
        for job in jobs:
            self._work.cancel(job)
        await self._store.flush()
        self._arrived()
        return jobs

    async def retry(self, job_id: str) -> Job:
        job = self._book.get(job_id)
        if not job.final:
            raise Refused(f"job {job_id} is {job.state}: only a job that has ended can be tried again")
        self._work.rerun(job)
        await self._store.flush()
        self._arrived()
        return job

    def members(self, job_id: str) -> list[Job]:
        found = self._book.gate.members(job_id) if job_id not in self._book.jobs else []
        return found or [self._book.get(job_id)]
