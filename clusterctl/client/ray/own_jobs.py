"""Jobs that Ray has beside the queue's: of `ray job submit`, and drivers that somebody started by hand."""

from __future__ import annotations

from typing import Any

from clusterctl.client.head.api import Api
from clusterctl.core.errors import ClusterctlError, NotFound

Job = dict[str, Any]


def own_jobs(api: Api, state: str = "", match: str = "") -> list[Job]:
    """The newest of them, in one state and with all of some words. Raises ClusterctlError where Ray cannot be asked."""
    words = match.lower().split()
    return [
        job
        for job in api.get("/api/v1/engine/jobs")["jobs"]
        if (not state or job["state"] == state) and all(word in _text(job) for word in words)
    ]


def _text(job: Job) -> str:
    return " ".join((job["id"], job["state"], job["entrypoint"], job["reason"])).lower()


def own_job(api: Api, job_id: str, error: NotFound) -> Job:
    """The one of this id. Raises `error`, which said that the queue has none, where Ray has none either or cannot be asked."""
    try:
        found = next((job for job in own_jobs(api) if job["id"] == job_id), None)
    except ClusterctlError:
        found = None
    if found is None:
        raise error
    return found


def elsewhere(job: Job, wanted: str) -> ClusterctlError:
    """Why the queue does nothing with it, and where that is to be had. `wanted`: cancel, retry or logs."""
    if job["kind"] == "driver":
        where = f"process {job['pid']} on {job['address']}"
        told = {
            "cancel": f"end {where}",
            "retry": "start it again there",
            "logs": "it has its output where it was started",
        }
        return ClusterctlError(f"job {job['id']} is a program that joined Ray by itself ({where}): {told[wanted]}")
    ray = f"`clusterctl env -- ray job {{}} {job['id']}`"
    told = {
        "cancel": f"{ray.format('stop')} ends it",
        "retry": "Ray runs a job once; `clusterctl submit` has retries",
        "logs": f"{ray.format('logs')} prints what it wrote",
    }
    return ClusterctlError(f"job {job['id']} is Ray's own and not the queue's: {told[wanted]}")
