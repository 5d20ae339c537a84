"""Jobs over HTTP: submit, list, show, watch, cancel, retry; and the blobs that they run in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Query, Request, Response

from clusterctl_runtime.head.api.context import HeadDep
from clusterctl_runtime.head.api.streams import KEEP_ALIVE_SECONDS, first_of, ndjson
from clusterctl_runtime.head.explaining import plan_job
from clusterctl_runtime.head.jobs import Job, job_document
from clusterctl_runtime.head.requests import Batch, JobRequest

if TYPE_CHECKING:
    from clusterctl_runtime.head.head import Head

router = APIRouter(prefix="/api/v1", tags=["jobs"])


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
    jobs, _ = await head.queue.submit(body.jobs)
    return {"ids": [job.id for job in jobs]}


@router.post("/jobs:plan")
async def plan_submission(body: JobRequest, head: HeadDep) -> dict[str, Any]:
    return plan_job(head, body)


@router.get("/jobs")
async def list_jobs(
    head: HeadDep, state: str = "", limit: int = Query(default=100, ge=1, le=100_000), array: str = ""
) -> dict[str, Any]:
    chosen = []
    for job in head.book.newest():
        if (not state or job.state == state) and (not array or job.array_id == array):
            chosen.append(job_document(job, head.book.wait_of(job)))
            if len(chosen) == limit:
                break
    return {"jobs": chosen, "counts": dict(head.book.counts)}


@router.get("/jobs/{job_id}")
async def show_job(job_id: str, head: HeadDep) -> dict[str, Any]:
    job = head.book.get(job_id)
    return job_document(job, head.book.wait_of(job))


@router.post("/jobs/{job_id}/cancel")
async def cancel_job(job_id: str, head: HeadDep) -> dict[str, Any]:
    jobs = await head.queue.cancel(job_id)
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
