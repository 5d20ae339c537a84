"""Jobs as a person reads them; nothing here fetches."""

from __future__ import annotations

import shlex
import time
from typing import Any

from clusterctl.cli.render.escape import one_line
from clusterctl.cli.render.status import state
from clusterctl.cli.render.text import amounts, columns, duration


def render_jobs(document: dict[str, Any], now: float) -> str:
    """The document of `jobs`; `now` in unix seconds, for ages and for how long they have run."""
    own = document.get("ray_jobs") or []
    ours = _render_ours(document.get("jobs") or [], now)
    return f"{ours}\n\n{_render_rays(own, now)}" if own else ours


def _render_rays(jobs: list[dict[str, Any]], now: float) -> str:
    rows = [
        [
            job["id"],
            state(job["state"]),
            _code(job),
            duration(now - job["submitted"]) if job.get("submitted") else "-",
            duration(_ran(job, now)),
            one_line(job.get("reason") or job["entrypoint"]),
        ]
        for job in jobs
    ]
    return columns(["job of Ray's own", "state", "exit", "age", "ran", "reason, or what runs"], rows, right=(2, 3, 4))


def render_ray_job(job: dict[str, Any], now: float) -> str:
    """One job that Ray has beside the queue's."""
    lines = [
        f"job {job['id']}: {state(job['state'])}",
        f"runs       {one_line(job['entrypoint'])}",
        "whose      Ray's own, beside the queue: "
        + ("of `ray job submit`" if job["kind"] == "submission" else f"process {job['pid']} on {job['address']}"),
        f"started    {clock(job.get('started'))}",
        f"ran        {duration(_ran(job, now))}" + (f", exit code {job['exit_code']}" if _code(job) else ""),
    ]
    if job.get("reason"):
        lines.append(f"reason     {one_line(job['reason'])}")
    return "\n".join(lines)


def _render_ours(jobs: list[dict[str, Any]], now: float) -> str:
    if not jobs:
        return "no jobs"
    rows = [
        [
            job["id"],
            job.get("name") or "",
            state(job["state"]),
            _code(job),
            duration(now - job["submitted"]) if job.get("submitted") else "-",
            duration(_ran(job, now)),
            job.get("user") or "-",
            "" if job["state"] == "succeeded" else job.get("reason") or "",
        ]
        for job in jobs
    ]
    return columns(["job", "name", "state", "exit", "age", "ran", "user", "reason"], rows, right=(3, 4, 5))


def _code(job: dict[str, Any]) -> str:
    return "" if job.get("exit_code") is None else str(job["exit_code"])


def _ran(job: dict[str, Any], now: float) -> float | None:
    return (job.get("ended") or now) - job["started"] if job.get("started") else None


def render_job(job: dict[str, Any], now: float) -> str:
    """One job with its attempts; `now` as above."""
    runs = " ".join(filter(None, [job.get("script"), shlex.join(job.get("entrypoint") or [])]))
    lines = [
        f"job {job['id']} ({one_line(job.get('name') or '')}): {state(job['state'])}",
        f"runs       {one_line(runs)}",
        f"asks for   {amounts(job.get('resources'))}"
        + (f" on each of {job['nodes']} nodes" if job.get("nodes", 1) > 1 else ""),
        f"submitted  {clock(job.get('submitted'))} by {one_line(job.get('user') or '-')}",
        f"ran        {duration(_ran(job, now))}" + (f", exit code {job['exit_code']}" if _code(job) else ""),
    ]
    if service := job.get("service"):
        lines.append(f"service    {service['name']}, version {service['version']}")
    if job.get("reason"):
        lines.append(f"reason     {one_line(job['reason'])}")
    fix = (job.get("wait") or {}).get("fix")
    if fix:
        lines.append(f"fix        {one_line(fix)}")
    attempts = job.get("attempts") or []
    if attempts:
        rows = [
            [
                attempt["id"],
                state(attempt["state"]),
                _code(attempt),
                clock(attempt.get("started")),
                duration(_ran(attempt, now)),
                ", ".join(attempt.get("nodes") or []),
                attempt.get("reason") or "",
            ]
            for attempt in attempts
        ]
        lines += ["", columns(["attempt", "state", "exit", "started", "ran", "nodes", "reason"], rows, right=(2,))]
    return "\n".join(lines)


def clock(at: float | None) -> str:
    """Local date and time; "-" for None."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if at else "-"
