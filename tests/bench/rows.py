"""A row of the benchmark table: ours and the peer's figure from the same run, and their ratio."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

Row = dict[str, Any]


def row(name: str, ours: float, peer: float | None, peer_name: str, unit: str, goal: str = "") -> Row:
    """`ratio` is peer / ours for times (how many times faster we are) and ours / peer for rates."""
    ratio = None
    if peer:
        ratio = ours / peer if unit.endswith("/s") else peer / ours if ours else None
    return {
        "name": name,
        "ours": ours,
        "peer": peer,
        "peer_name": peer_name,
        "ratio": ratio,
        "unit": unit,
        "goal": goal,
    }


def median_seconds(command: Sequence[str], runs: int = 5, env: dict[str, str] | None = None) -> float:
    """Median wall time of a whole command, after one run that is not counted."""
    times = []
    for number in range(runs + 1):
        started = time.perf_counter()
        subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if number:
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def percentile(values: Sequence[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def timed(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
