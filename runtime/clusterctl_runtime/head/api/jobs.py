"""Jobs over HTTP: submit, list, show, watch, cancel, retry, logs; and the blobs that they run in."""

from __future__ import annotations

import asyncio
import codecs
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Query, Request, Response

from clusterctl_runtime.head.api.context import HeadDep
from clusterctl_runtime.head.api.streams import KEEP_ALIVE_SECONDS, SignOfLife, first_of, ndjson
from clusterctl_runtime.head.arrays import Array
from clusterctl_runtime.head.explaining import plan_job
from clusterctl_runtime.head.job_documents import array_document, job_document
from clusterctl_runtime.head.jobs import Attempt, Job, number_of, task_id
from clusterctl_runtime.head.requests import Batch, JobRequest

if TYPE_CHECKING:
    from clusterctl_runtime.head.head import Head

router = APIRouter(prefix="/api/v1", tags=["jobs"])
MOST_ON_PAGE = 1000
LOOKED_AT_ONCE = 2000  # jobs that one turn of the loop looks at for a page
COUNTS_INTERVAL = 0.25  # who follows an array is told at most so often
LATE_LOG_SECONDS = 10.0  # how long a finished job's stream waits for the last bytes of its log


@router.head("/blobs/{digest}")
async def has_blob(digest: str, head: HeadDep) -> Response:
    return Response(status_code=200 if head.blobs.renew(digest) else 404)


@router.put("/blobs/{digest}", status_code=201)
async def put_blob(digest: str, request: Request, response: Response, head: HeadDep) -> dict[str, Any]:
    created = await head.blobs.put(digest, request.stream())
    if created:
        head.preparing.changed()
    else:
        response.status_code = 200
    return {"digest": digest, "created": created}


@router.post("/jobs", status_code=201)
async def submit(body: JobRequest, response: Response, head: HeadDep) -> dict[str, Any]:
    jobs, created = await head.queue.submit([body])
    if not created:
        response.status_code = 200
    if body.array is not None:
        return {"id": jobs[0].array_id, "state": "queued", "ids": [job.id for job in jobs]}
    return {"id": jobs[0].id, "state": jobs[0].state}


@router.post("/jobs:batch", status_code=201)
async def submit_batch(body: Batch, head: HeadDep) -> dict[str, Any]:
    jobs, _ = await head.queue.submit(await body.requests())
    return {"ids": [job.id for job in jobs]}


@router.post("/jobs:plan")
async def plan_submission(body: JobRequest, head: HeadDep) -> dict[str, Any]:
    return plan_job(head, body)


@router.get("/jobs")
async def list_jobs(
    head: HeadDep,
    state: str = "",
    limit: int = Query(default=100, ge=1, le=MOST_ON_PAGE),
    array: str = "",
    before: int | None = Query(default=None, ge=0),
) -> dict[str, Any]:
    """A page, the newest jobs first. `next` is the `before` of the page behind it, null when there is none. `counts` are of
    all jobs that there ever were, or of all of the array."""
    members = head.book.array(array) if array else None
    chosen: list[dict[str, Any]] = []
    look = limit if not state else LOOKED_AT_ONCE
    while jobs := head.book.newest(before, look, members):
        for job in jobs:
            before = job.seq
            if (not state or job.state == state) and (not array or job.array_id == array):
                chosen.append(job_document(job, head.book.wait_of(job)))
                if len(chosen) == limit:
                    break
        if len(chosen) == limit:
            break
        await asyncio.sleep(0)
    counts = members.counts if members else head.book.counts
    return {"jobs": chosen, "counts": dict(counts), "next": before if len(chosen) == limit else None}


@router.get("/arrays/{array_id}")
async def show_array(array_id: str, head: HeadDep) -> dict[str, Any]:
    return array_document(head.book.array(array_id))


@router.get("/arrays/{array_id}/watch")
async def watch_array(array_id: str, head: HeadDep) -> Response:
    return ndjson(_watch_array(head, head.book.array(array_id)))


async def _watch_array(head: Head, array: Array) -> AsyncIterator[Any]:
    """Its figures whenever they have changed, until every member has ended."""
    told, life = None, SignOfLife()
    while True:
        changed = head.book.changed(array.id)
        document = array_document(array)
        if document != told:
            told = document
            life.said()
            yield document
        elif life.is_due():
            yield None
        if not array.open:
            return
        await first_of([changed], life.due_in)
        await asyncio.sleep(COUNTS_INTERVAL)


@router.get("/jobs/{job_id}")
async def show_job(job_id: str, head: HeadDep) -> dict[str, Any]:
    job = head.book.get(job_id)
    return job_document(job, head.book.wait_of(job))


@router.post("/jobs/{job_id}/cancel")
async def cancel_job(job_id: str, head: HeadDep) -> dict[str, Any]:
    """Of an array: how many of its jobs are now in which state."""
    jobs = await head.queue.cancel(job_id)
    if jobs[0].array_id == job_id:
        return {**array_document(head.book.array(job_id)), "state": "cancelled", "jobs": len(jobs)}
    return {"id": job_id, "state": jobs[0].state, "jobs": len(jobs)}


@router.post("/jobs/{job_id}/retry")
async def retry_job(job_id: str, head: HeadDep) -> dict[str, Any]:
    job = await head.queue.retry(job_id)
    return {"id": job.id, "state": job.state}


@router.get("/jobs/{job_id}/watch")
async def watch_job(job_id: str, head: HeadDep) -> Response:
    return ndjson(_watch(head, head.book.get(job_id)))


async def _watch(head: Head, job: Job) -> AsyncIterator[Any]:
    told: dict[str, Any] | None = None
    while True:
        changed = head.book.changed(job.id)
        document = job_document(job, head.book.wait_of(job))
        yield document if document != told else None
        told = document
        if job.final:
            return
        await first_of([changed], KEEP_ALIVE_SECONDS)


@router.get("/jobs/{job_id}/logs")
async def read_logs(
    job_id: str,
    head: HeadDep,
    rank: int | None = None,
    attempt: int | None = None,
    follow: bool = False,
    tail: int | None = Query(default=None, ge=0),
    offset: int = Query(default=0, ge=0),
) -> Response:
    """Lines of {"rank","attempt","offset","data"}; `offset` counts bytes of the stored log. Ends with {"end": true}."""
    return ndjson(_LogReader(head, head.book.get(job_id), rank, attempt, tail, offset).lines(follow))


class _LogReader:
    """Reads the logs of a job's ranks as they grow, the latest attempt's or a given one's; goes on with each retry."""

    def __init__(
        self, head: Head, job: Job, rank: int | None, attempt: int | None, tail: int | None, offset: int
    ) -> None:
        self._head, self._job = head, job
        self._rank, self._attempt = rank, attempt
        self._tail, self._offset = tail, offset
        self._first = attempt or (number_of(job.attempts[-1].id) if job.attempts else 1)
        self._positions: dict[str, int] = {}
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}
        self._final_since: float | None = None

    def _attempts(self) -> list[Attempt]:
        wanted = [a for a in self._job.attempts if number_of(a.id) >= self._first]
        return [a for a in wanted if self._attempt in (None, number_of(a.id))]

    def _tasks(self) -> list[tuple[str, int, int]]:
        """(task, attempt number, rank) of every log that is asked for."""
        return [
            (task_id(a.id, rank), number_of(a.id), rank)
            for a in self._attempts()
            for rank in range(len(a.nodes))
            if self._rank in (None, rank)
        ]

    async def lines(self, follow: bool) -> AsyncIterator[Any]:
        life = SignOfLife()
        while True:
            events = [self._head.book.changed(self._job.id)]
            events += [self._head.logs.changed(task) for task, _, _ in self._tasks()]
            over = self._is_over()  # judged before reading: what arrived until then is read below
            progressed = False
            for task, attempt, rank in self._tasks():
                line = await self._next(task, attempt, rank)
                if line:
                    progressed = True
                    yield line
            if progressed:
                life.said()
                continue
            if not follow or over:
                for line in self._leftovers():
                    yield line
                yield {
                    "end": True,
                    "state": self._job.state,
                    "exit_code": self._job.exit_code,
                    "reason": self._job.reason,
                }
                return
            await first_of(events, min(1.0, life.due_in) if self._job.final else life.due_in)
            if life.is_due():
                yield None

    async def _next(self, task: str, attempt: int, rank: int) -> dict[str, Any] | None:
        position = self._positions.get(task)
        if position is None:
            position = self._offset if self._tail is None else self._head.logs.tail_position(task, self._tail)
            if self._tail == 0:
                position = self._head.logs.size(task)
            self._decoders[task] = codecs.getincrementaldecoder("utf-8")(errors="replace")
        data = await asyncio.to_thread(self._head.logs.read, task, position)
        self._positions[task] = position + len(data)
        if not data:
            return None
        text = self._decoders[task].decode(data)
        return {"rank": rank, "attempt": attempt, "offset": position, "next": position + len(data), "data": text}

    def _leftovers(self) -> list[dict[str, Any]]:
        """Bytes of a character that never became whole."""
        lines = []
        for task, attempt, rank in self._tasks():
            decoder = self._decoders.get(task)
            text = decoder.decode(b"", final=True) if decoder else ""
            if text:
                at = self._positions[task]
                lines.append({"rank": rank, "attempt": attempt, "offset": at, "next": at, "data": text})
        return lines

    def _is_over(self) -> bool:
        last = self._attempts()[-1] if self._attempts() else None
        ended = self._job.final or (self._attempt is not None and last is not None and last.state != "running")
        if not ended:
            self._final_since = None
            return False
        self._final_since = self._final_since or time.monotonic()
        whole = all(self._head.logs.complete(task) for task, _, _ in self._tasks())
        return whole or time.monotonic() - self._final_since > LATE_LOG_SECONDS
