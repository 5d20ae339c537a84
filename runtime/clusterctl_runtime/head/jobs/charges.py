"""`cost --by job|user`: what attempts held of their nodes, for how long, at the price that the node had.

What is left of the cluster's cost is nobody's: nodes that boot or idle, the head, and what the engine's own work used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from clusterctl_runtime.head.jobs.job import Attempt, Job

Document = dict[str, Any]
FORGOTTEN = "(forgotten)"  # no job can have this id
MOST_ROWS = 100  # the dearest; the others are one row


def charges_document(
    jobs: Iterable[Job],
    by: str,
    total: float,
    now: float,
    forgotten: Mapping[str, tuple[float, float]] = MappingProxyType({}),
) -> Document:
    """`total`: what the cluster has cost so far, in dollars. Rows are {by, "hours", "dollars"}, the dearest first. `forgotten`:
    (hours, dollars) of each user's jobs that are not among `jobs` any more."""
    sums: dict[str, list[float]] = {}
    names: dict[str, str] = {}
    for job in jobs:
        if not job.tried:
            continue
        key = job.id if by == "job" else user_of(job)
        hours, dollars = charge_of(job, now)
        row = sums.setdefault(key, [0.0, 0.0])
        row[0] += hours
        row[1] += dollars
        names[key] = job.name
    for user, (hours, dollars) in forgotten.items():
        row = sums.setdefault(FORGOTTEN if by == "job" else user, [0.0, 0.0])
        row[0] += hours
        row[1] += dollars
    names.setdefault(FORGOTTEN, "jobs that are no longer kept")
    dearest = sorted(sums, key=lambda key: (-sums[key][1], -sums[key][0], key))
    rows = [_row(by, key, *sums[key]) | ({"name": names[key]} if by == "job" else {}) for key in dearest[:MOST_ROWS]]
    others = [sums[key] for key in dearest[MOST_ROWS:]]
    if others:
        rows.append(_row(by, f"{len(others)} more", sum(h for h, _ in others), sum(d for _, d in others)))
    charged = sum(dollars for _, dollars in sums.values())
    return {
        "by": by,
        "rows": rows,
        "charged": round(charged, 6),
        "unused": round(max(0.0, total - charged), 6),
        "total": round(total, 6),
    }


def user_of(job: Job) -> str:
    """The user that a job is charged to; "-" where none was named."""
    return str(job.request.get("user") or "-")


def charge_of(job: Job, now: float) -> tuple[float, float]:
    """(node hours by share, dollars) of all attempts."""
    hours = dollars = 0.0
    for attempt in job.tried or ():
        lasted = _lasted(attempt, now)
        hours += lasted * sum(attempt.shares)
        dollars += lasted * sum(attempt.rates)
    return hours, dollars


class EndedCharges:
    """`by_user`: what attempts that have ended have cost, in dollars, kept up to date so that nobody has to look at all jobs.
    `forgotten`: as of `charges_document`."""

    def __init__(self, jobs: Iterable[Job], forgotten: Mapping[str, tuple[float, float]]) -> None:
        self.by_user = {user: dollars for user, (_, dollars) in forgotten.items()}
        for job in jobs:
            for attempt in job.tried or ():
                if attempt.ended is not None:
                    self.add(job, attempt)

    def add(self, job: Job, attempt: Attempt) -> None:
        """One that has ended."""
        user = user_of(job)
        self.by_user[user] = self.by_user.get(user, 0.0) + _lasted(attempt, 0.0) * sum(attempt.rates)


def _lasted(attempt: Attempt, now: float) -> float:
    """In hours."""
    return max(0.0, (attempt.ended or now) - attempt.started) / 3600


def _row(by: str, key: str, hours: float, dollars: float) -> Document:
    return {by: key, "hours": round(hours, 4), "dollars": round(dollars, 6)}
