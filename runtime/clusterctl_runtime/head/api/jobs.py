"""Jobs over HTTP: submit, list, show, watch, cancel, retry; and the blobs that they run in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from clusterctl.core.errors import BadRequest, Refused, UsageError
from clusterctl_runtime.head.api.context import LARGEST, HeadDep
from clusterctl_runtime.head.api.explaining import plan_job
from clusterctl_runtime.head.api.job_documents import (
    array_document,
    folded_document,
    job_detail,
    job_document,
    look,
    shown_text,
    wait_of,
)
from clusterctl_runtime.head.api.streams import SignOfLife, first_of, ndjson
from clusterctl_runtime.head.engine.waits import FRESH_SECONDS
from clusterctl_runtime.head.jobs.arrays import Array
from clusterctl_runtime.head.jobs.job import Job
from clusterctl_runtime.head.jobs.naming import job_named
from clusterctl_runtime.head.jobs.requests import Batch, JobRequest

if TYPE_CHECKING:
    from clusterctl_runtime.head.head import Head

router = APIRouter(prefix="/api/v1", tags=["jobs"])
MOST_ON_PAGE = 1000
LOOKED_AT_ONCE = 1000  # jobs that one turn of the loop looks at for a page
STATES = ("queued", "running", "succeeded", "failed", "cancelled")
WAITS_INTERVAL = 2.0  # seconds between two questions to Ray for who follows a job while something waits
COUNTS_INTERVAL = 0.25  # who follows an array is told at most so often


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


class Digests(BaseModel):
    """Of blobs."""

    digests: list[str] = Field(max_length=1000)


@router.post("/blobs:missing")
async def missing_blobs(body: Digests, head: HeadDep) -> dict[str, Any]:
    return {"missing": await asyncio.to_thread(head.blobs.missing, body.digests)}


@router.post("/jobs", status_code=201, response_model=None)
async def submit(body: JobRequest, head: HeadDep) -> JSONResponse:
    refuse_replicas([body])
    jobs, created = await head.queue.submit([body])
    if body.array is not None:
        answer = {"id": jobs[0].array_id, "state": "queued", "ids": [job.id for job in jobs]}
    else:
        answer = {"id": jobs[0].id, "state": jobs[0].state}
    return JSONResponse(answer, 201 if created else 200)  # as it is: FastAPI would look at each of 100,000 ids


@router.post("/jobs:batch", status_code=201, response_model=None)
async def submit_batch(body: Batch, head: HeadDep) -> JSONResponse:
    requests = await body.requests()
    refuse_replicas(requests)
    jobs, _ = await head.queue.submit(requests)
    return JSONResponse({"ids": [job.id for job in jobs]}, 201)


def refuse_replicas(requests: Iterable[JobRequest]) -> None:
    """Raises BadRequest for a job that says of itself that it belongs to a service."""
    if any(request.service is not None for request in requests):
        raise BadRequest("replicas of services are started by the head: `clusterctl service run`")


@router.post("/jobs:plan")
async def plan_submission(body: JobRequest, head: HeadDep) -> dict[str, Any]:
    return plan_job(head, body)


@router.get("/jobs")
async def list_jobs(
    head: HeadDep,
    state: str = "",
    limit: int = Query(default=100, ge=1, le=MOST_ON_PAGE),
    array: str = "",
    before: int | None = Query(default=None, ge=0, le=LARGEST),
    match: str = "",
    fold: bool = False,
) -> dict[str, Any]:
    """A page, the newest jobs first, of those in `state` and with all words of `match` in what is shown of them; with `fold` an
    array is one of them, by its newest member. `next` is the `before` of the page behind it, null when there is none. `counts`
    are of all jobs that there ever were, or of all of the array."""
    if state and state not in STATES:
        raise UsageError(f"no job has the state {state!r}: they are {', '.join(STATES)}")
    members = head.book.array(array) if array else None
    words = match.lower().split()

    def is_wanted(job: Job) -> bool:
        if (state and job.state != state) or (array and job.array_id != array):
            return False
        text = shown_text(job, wait_of(head, job)) if words else ""
        return all(word in text for word in words)

    await look(head)
    chosen: list[Job] = []
    most = LOOKED_AT_ONCE if state or words else limit + 1
    while len(chosen) <= limit and (jobs := head.book.newest(before, most, members)):
        for job in jobs:
            if before is not None and job.seq >= before:
                continue  # of an array that is there already
            before = job.seq
            if is_wanted(job):
                chosen.append(job)
                before = _behind(head, job, fold)
            if len(chosen) > limit:
                break
        await asyncio.sleep(0)
    page = chosen[:limit]
    counts = members.counts if members else head.book.counts
    documents = [folded_document(head, job) if fold else job_document(job, wait_of(head, job)) for job in page]
    behind = _behind(head, page[-1], fold) if len(chosen) > limit else None
    return {"jobs": documents, "counts": dict(counts), "next": behind}


def _behind(head: Head, job: Job, fold: bool) -> int:
    """The number below which a list goes on: members of an array have theirs in a row."""
    return head.book.array(job.array_id).first if fold and job.array_id else job.seq


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


@router.get("/jobs:named")
async def named(word: str, head: HeadDep, to_end: bool = False) -> dict[str, Any]:
    """Which job or array is meant by an id, the beginning of one, a name, `last`, or a member as NAME.INDEX; `to_end`: to be
    cancelled."""
    return {"id": await job_named(head.book, word, to_end=to_end)}


@router.get("/jobs/{job_id}")
async def show_job(job_id: str, head: HeadDep) -> dict[str, Any]:
    job = head.book.get(job_id)
    await look(head)
    return job_detail(head, job)


@router.post("/jobs/{job_id}/cancel")
async def cancel_job(job_id: str, head: HeadDep) -> dict[str, Any]:
    """Of an array: how many of its jobs are now in which state."""
    jobs = await head.queue.cancel(job_id)
    if jobs[0].array_id == job_id:
        return {**array_document(head.book.array(job_id)), "state": "cancelled", "jobs": len(jobs)}
    return {"id": job_id, "state": jobs[0].state, "jobs": len(jobs)}


@router.post("/jobs/{job_id}/retry")
async def retry_job(job_id: str, head: HeadDep) -> dict[str, Any]:
    if service := head.book.get(job_id).request.get("service"):
        raise Refused(f"{job_id} was a replica of service {service['name']}, which starts its replicas itself")
    job = await head.queue.retry(job_id)
    return {"id": job.id, "state": job.state}


@router.get("/jobs/{job_id}/watch")
async def watch_job(job_id: str, head: HeadDep) -> Response:
    return ndjson(_watch(head, head.book.get(job_id)))


async def _watch(head: Head, job: Job) -> AsyncIterator[Any]:
    told, life = None, SignOfLife()
    while True:
        changed = head.book.changed(job.id)
        if job.state == "running":
            await look(head)
        document = job_document(job, wait_of(head, job))
        if document != told:
            told = document
            life.said()
            yield document
        elif life.is_due():
            yield None
        if job.final:
            return
        await _until_news(head, job, changed, life.due_in)


async def _until_news(head: Head, job: Job, changed: asyncio.Event, timeout: float) -> None:
    """Of the job itself at once; of what it wants of the engine while it runs a moment later, since Ray's own tables are late,
    and once more from time to time while anything waits: the reason may be another one by then."""
    if job.state != "running" or head.engine is None:
        await first_of([changed], timeout)
        return
    waits = head.engine.waits
    pause = min(timeout, WAITS_INTERVAL) if waits.wants else timeout
    if await first_of([changed, waits.news()], pause) and not changed.is_set():
        await first_of([changed], FRESH_SECONDS)
