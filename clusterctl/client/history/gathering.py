"""What a head is asked for before it ends, whichever machine it runs on. Bounded in number, bytes and time: what is left out is
said.

    {"status", "jobs": [document of a job], "counts", "events": [..], "cost": {"pool"|"user"|"job": document},
     "logs": {job id: [piece of its log]}, "shown": {job id: what `job show` has}}
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

from clusterctl.client.head.api import Api
from clusterctl.client.history.archive import History
from clusterctl.client.registry import Cluster, Registry
from clusterctl.client.submit.job_list import list_jobs
from clusterctl.client.submit.logs import FINAL
from clusterctl.core.errors import ClusterctlError

MOST_JOBS, MOST_EVENTS, MOST_LOGS = 2000, 10_000, 500  # the newest of each
LOG_LINES, LOG_BYTES, ALL_LOG_BYTES = 10_000, 128 * 1024, 16 * 1024 * 1024  # the last ones of a log; of all logs
SECONDS = 20.0  # after which no further log is asked for
SILENCE = 10.0
CAUGHT = "the cluster was taken down before it had ended"

Clock = Callable[[], float]


def keep_history(
    registry: Registry, cluster: Cluster, tell: Callable[[str], None], clock: Clock = time.monotonic
) -> None:
    """Archives what the head of `cluster` knows, as far as it answers; what could not be kept is told, and is no reason not to
    go on."""
    if cluster.trying:
        return  # one of several places, where nothing was run yet
    try:
        with Api.of(cluster) as api:
            gathered, left_out = gather(api, clock)
        ended = History(registry.home).keep(cluster, gathered, left_out)
    except (ClusterctlError, OSError) as error:
        tell_lost(registry, cluster, str(error), tell)
        return
    for text in left_out:
        tell(f"not kept of cluster {cluster.name}: {text}")
    tell(f"its jobs, logs, events and costs are kept: `clusterctl jobs --history {ended.key}`")


def tell_lost(registry: Registry, cluster: Cluster, why: str, tell: Callable[[str], None]) -> None:
    """That nothing could be kept, unless an earlier `down` of the same cluster had done it."""
    if all(one.uid != cluster.uid for one in History(registry.home).all()):
        tell(f"the jobs, logs, events and costs of cluster {cluster.name} could not be kept for later: {why}")


def gather(api: Api, clock: Clock = time.monotonic) -> tuple[dict[str, Any], list[str]]:
    """(what the head told, what was left out of it). Raises ClusterctlError where it does not answer."""
    began, left_out = clock(), list[str]()
    status = api.get("/api/v1/status")
    listed = list_jobs(api, MOST_JOBS)
    jobs = [_as_ended(job) for job in listed["jobs"]]
    number = sum(listed["counts"].get(state, 0) for state in ("queued", "running", *FINAL))
    if number > len(jobs):
        left_out.append(f"{number - len(jobs):,} jobs before the newest {len(jobs):,}")
    gathered: dict[str, Any] = {
        "status": {"cost": status.get("cost") or {}, "engine": status.get("engine") or {}},
        "jobs": jobs,
        "counts": listed["counts"],
        "events": _events(api),
        "cost": {by: _cost(api, by) for by in ("pool", "user", "job")},
    }
    logs, shown = _logs(api, jobs, lambda: clock() - began > SECONDS, left_out)
    gathered |= {"logs": logs, "shown": shown}
    return gathered, left_out


def _as_ended(job: dict[str, Any]) -> dict[str, Any]:
    """As it is once the cluster is down: what ran or waited has ended with it."""
    if job["state"] in FINAL:
        return job
    return {**job, "state": "cancelled", "ended": time.time(), "reason": CAUGHT, "wait": None}


def _events(api: Api) -> list[dict[str, Any]]:
    """The newest, oldest first."""
    last = int(api.get("/api/v1/events", since=-1, limit=1).get("last") or 0)
    return api.get("/api/v1/events", since=max(0, last - MOST_EVENTS), limit=MOST_EVENTS)["events"]


def _cost(api: Api, by: str) -> dict[str, Any]:
    document = api.get("/api/v1/cost", by=by)
    return {**document, "rows": document["rows"][-MOST_JOBS:]}


def _logs(
    api: Api, jobs: list[dict[str, Any]], is_late: Callable[[], bool], left_out: list[str]
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, dict[str, Any]]]:
    """The last pieces of the logs of the newest jobs that have run, and what is shown of each of those jobs alone."""
    logs: dict[str, list[dict[str, Any]]] = {}
    shown: dict[str, dict[str, Any]] = {}
    room, asked = ALL_LOG_BYTES, [job for job in jobs if job["attempts"]]
    for number, job in enumerate(asked):
        if number >= MOST_LOGS or room <= 0 or is_late():
            left_out.append(f"the logs of {len(asked) - number:,} jobs before the newest {number:,}")
            break
        try:
            shown[job["id"]] = _as_ended(api.get(f"/api/v1/jobs/{job['id']}"))
            logs[job["id"]] = pieces = list(_pieces(api, job["id"]))
        except ClusterctlError as error:
            left_out.append(f"the log of job {job['id']} ({error})")
            continue
        room -= sum(len(piece["data"]) for piece in pieces)
    return logs, shown


def _pieces(api: Api, job: str) -> Iterator[dict[str, Any]]:
    """The end of its log, of each rank while there is room."""
    room = 2 * LOG_BYTES
    query = {"tail": LOG_LINES, "tail_bytes": LOG_BYTES}
    with closing(api.stream(f"/api/v1/jobs/{job}/logs", silence=SILENCE, **query)) as stream:
        for piece in stream:
            if piece.get("end") or room <= 0:
                return
            room -= len(piece["data"])
            yield piece
