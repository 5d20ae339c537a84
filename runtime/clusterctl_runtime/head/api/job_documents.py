"""Jobs as the API shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.engine.waits import wait_document
from clusterctl_runtime.head.jobs.arrays import Array
from clusterctl_runtime.head.jobs.charges import charge_of
from clusterctl_runtime.head.jobs.job import Job

if TYPE_CHECKING:
    from clusterctl_runtime.head.head import Head


def wait_of(head: Head, job: Job) -> dict[str, Any] | None:
    """Why a job waits: one that is queued for its start, one that runs for what it wants of the engine, as of the last `look`."""
    if job.state != "running" or head.engine is None or not (pieces := head.engine.waits.of(job.id)):
        return head.book.wait_of(job)
    return wait_document(pieces, head.autoscaler.demand, head.autoscaler.last_plan.waits)


async def look(head: Head) -> None:
    """Before `wait_of` is asked of jobs that run: asks the engine what waits, if anything does."""
    if head.engine is not None:
        await head.engine.waits.look()


def job_document(job: Job, wait: dict[str, Any] | None = None) -> dict[str, Any]:
    """The job as the API shows it (`job show --json`). `wait` says why it is queued, or what it waits for
    while it runs."""
    request = job.request
    return {
        "id": job.id,
        "name": job.name,
        "state": job.state,
        "exit_code": job.exit_code,
        "attempts": [
            {
                "id": a.id,
                "state": a.state,
                "nodes": a.nodes,
                "started": a.started,
                "ended": a.ended,
                "exit_code": a.exit_code,
                "reason": a.reason,
            }
            for a in job.tried or ()
        ],
        "submitted": job.submitted,
        "started": job.started,
        "ended": job.ended,
        "reason": (wait or {}).get("text", "") or job.reason,
        "entrypoint": request.get("argv") or [],
        "resources": {**job.shape.resources.to_dict()},
        "user": request.get("user", ""),
        "priority": request.get("priority", 0),
        "nodes": job.nodes,
        "pool": job.shape.pool,
        "gpu_type": job.shape.gpu_type,
        "submission_id": job.id,  # who submits the same with this id means this job
        "array_id": job.array_id,
        "array_index": job.array_index,
        "array_limit": request.get("array_limit"),
        "after": request.get("after") or [],
        "driver": bool(request.get("driver")),
        "script": request.get("script", ""),
        "service": request.get("service"),
        "wait": wait,
    }


def job_detail(head: Head, job: Job) -> dict[str, Any]:
    """The job, and beside it `cost` ({"hours" of nodes by share, "dollars"} so far), its `array`, and the jobs that it follows
    (`follows`, of those that are known)."""
    hours, dollars = charge_of(job, steady_time())
    follows = [head.book.jobs.get(wanted.partition(":")[0]) for wanted in job.request.get("after") or ()]
    return {
        **job_document(job, wait_of(head, job)),
        "cost": {"hours": round(hours, 4), "dollars": round(dollars, 6)},
        "array": array_document(head.book.array(job.array_id)) if job.array_id else None,
        "follows": [{"id": one.id, "name": one.name, "state": one.state} for one in follows if one is not None],
    }


def folded_document(head: Head, job: Job) -> dict[str, Any]:
    """A row of a list in which an array is one: its newest member, with `array`."""
    document = job_document(job, wait_of(head, job))
    return {**document, "array": array_document(head.book.array(job.array_id))} if job.array_id else document


def shown_text(job: Job, wait: dict[str, Any] | None) -> str:
    """What a person can look for in a list of jobs."""
    request = job.request
    command = (request.get("script", ""), *(request.get("argv") or ()))
    service = (request.get("service") or {}).get("name", "")
    told = (service, job.state, (wait or {}).get("text", "") or job.reason, request.get("user", ""), job.shape.pool)
    return " ".join((job.id, job.name, *command, *told)).lower()


def array_document(array: Array) -> dict[str, Any]:
    """`counts`: its members by state, those that were forgotten among them."""
    return {"id": array.id, "counts": {state: count for state, count in sorted(array.counts.items()) if count}}
