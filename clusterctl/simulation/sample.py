"""Makes the sample trace that ships: three days of a small team, invented, the same bytes each time.

python -m clusterctl.simulation.sample > sample.csv
"""

from __future__ import annotations

import csv
import io
import math
import sys

from clusterctl.core.simulate.draws import exponential, lognormal, uniform

SEED = 20_260
DAYS = 3
PER_HOUR = 9.0
COLUMNS = (
    "submit_s",
    "duration_s",
    "nodes",
    "cpus_per_node",
    "memory_gib_per_node",
    "gpus_per_node",
    "gpu_type",
    "priority",
    "user",
)
# share of jobs, nodes, CPUs, memory GiB, GPUs, median seconds, spread
KINDS = (
    (0.34, 1, 2, 8, 0, 420, 1.2),
    (0.12, 1, 4, 16, 0, 1800, 1.0),
    (0.12, 1, 2, 8, 0.25, 900, 1.1),
    (0.26, 1, 3, 12, 1, 2400, 1.4),
    (0.11, 1, 16, 64, 4, 7200, 1.0),
    (0.03, 2, 24, 96, 4, 10800, 0.8),
    (0.02, 4, 3, 12, 1, 5400, 0.8),
)
USERS = ("ada", "grace", "alan", "edsger", "barbara")


def sample_csv() -> str:
    """The trace as CSV text: busy afternoons, quiet nights, a sweep of twenty equal jobs each morning."""
    rows: list[tuple[object, ...]] = []
    at, number = 0.0, 0
    while True:
        number += 1
        hour = at / 3600 % 24
        pace = PER_HOUR * (0.25 + 1.5 * max(0.0, math.sin((hour - 7) / 14 * math.pi)) if 7 <= hour <= 21 else 0.25)
        at += exponential(3600 / pace, SEED, "gap", number)
        if at >= DAYS * 86_400:
            break
        rows.append(_row(round(at), number))
    for day in range(DAYS):
        start = day * 86_400 + 9 * 3600
        for k in range(20):
            seconds = round(lognormal(1500, 0.15, SEED, "sweep", day, k))
            rows.append((start, seconds, 1, 3, 12, 1, "", 0, "grace"))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(sorted(rows, key=_by_time))
    return text.getvalue()


def _by_time(row: tuple[object, ...]) -> tuple[str, ...]:
    return (f"{row[0]:>9}", *map(str, row[1:]))


def _row(at: int, number: int) -> tuple[object, ...]:
    pick, total = uniform(SEED, "kind", number), 0.0
    kind = KINDS[-1]
    for candidate in KINDS:
        total += candidate[0]
        if pick < total:
            kind = candidate
            break
    _, nodes, cpus, memory, gpus, median, spread = kind
    seconds = min(86_400, max(20, round(lognormal(median, spread, SEED, "length", number))))
    user = USERS[int(uniform(SEED, "user", number) * len(USERS))]
    priority = 1 if uniform(SEED, "priority", number) < 0.1 else 0
    return (at, seconds, nodes, cpus, memory, gpus, "", priority, user)


if __name__ == "__main__":
    sys.stdout.write(sample_csv())
