"""The list of jobs, page by page: a head answers for a long one in pieces."""

from __future__ import annotations

from typing import Any

from clusterctl.client.head.api import Api

PAGE = 1000


def list_jobs(api: Api, limit: int, **which: Any) -> dict[str, Any]:
    """The document of `jobs --json`: the newest `limit` jobs. `which`: state, array, match."""
    document = api.get("/api/v1/jobs", limit=min(limit, PAGE), **which)
    jobs: list[dict[str, Any]] = document["jobs"]
    page = document
    while page.get("next") is not None and len(jobs) < limit:
        page = api.get("/api/v1/jobs", limit=min(limit - len(jobs), PAGE), before=page["next"], **which)
        jobs += page["jobs"]
    return {"jobs": jobs, "counts": document.get("counts", {})}
