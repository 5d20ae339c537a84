"""`cost --by job|user`: what attempts held of their nodes, for how long, at the price that the node had.

What is left of the cluster's cost is nobody's: nodes that boot or idle, the head, and what the engine's own work used.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from clusterctl_runtime.head.jobs import Job

Document = dict[str, Any]
MOST_ROWS = 100  # the dearest; the others are one row


def charges_document(jobs: Iterable[Job], by: str, total: float, now: float) -> Document:
    """`total`: what the cluster has cost so far, in dollars. Rows are {by, "hours", "dollars"}, the dearest first."""
    sums: dict[str, list[float]] = {}
    names: dict[str, str] = {}
    for job in jobs:
        if not job.tried:
            continue
        key = job.id if by == "job" else str(job.request.get("user") or "-")
        hours, dollars = _charge(job, now)
        row = sums.setdefault(key, [0.0, 0.0])
        row[0] += hours
        row[1] += dollars
        names[key] = job.name
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


def _charge(job: Job, now: float) -> tuple[float, float]:
    """(node hours by share, dollars) of all attempts."""
    hours = dollars = 0.0
    for attempt in job.attempts:
        lasted = max(0.0, (attempt.ended or now) - attempt.started) / 3600
        hours += lasted * sum(attempt.shares)
        dollars += lasted * sum(attempt.rates)
    return hours, dollars


def _row(by: str, key: str, hours: float, dollars: float) -> Document:
    return {by: key, "hours": round(hours, 4), "dollars": round(dollars, 6)}
