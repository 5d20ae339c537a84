"""How soon nodes take work after their machines boot. Every machine is a real one: namespaces, an address, a metadata
service, its start-up script run as root, the real agent over real TLS. What is not as in a cloud, and is said in the rows: the
pretended boot takes seconds, not a minute (it is taken off), and all machines share this one's processors, so that their
own work (a script and an agent that start) is done on 2 cores and not on 200."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from tests.bench.rows import Row, row
from tests.bench.subjects import Subject

BOOT = 5.0
GOALS = ((1, "boot + 5 s"), (50, "boot + 15 s"), (200, "boot + 30 s"))
NETWORK = "10.79.0"


def run(subject: Subject) -> list[Row]:
    rows: list[Row] = []
    for count, goal in GOALS:
        rows += _join(subject, count, goal)
    alone, head = rows[0]["ours"], rows[-1]["ours"]
    name = f"{subject.title}: one machine's time + the head's for {GOALS[-1][0]} (a processor each, computed)"
    return [*rows, row(name, alone + head, None, "", "s", GOALS[-1][1])]


def _join(subject: Subject, count: int, goal: str) -> list[Row]:
    gateway = f"{NETWORK}.1"
    with (
        tempfile.TemporaryDirectory() as directory,
        subject.open(f"{NETWORK}.0/16") as cloud,
        subject.machines(cloud, f"{gateway}/16") as machines,
    ):
        cloud.world.boot_seconds = BOOT
        cloud.world.limit("*", burst=20, per_second=5.0)
        pools = f"  - {{name: cpu, instances: [{subject.small}], min: {count}, max: {count}, idle_timeout: 1h}}"
        more = "engine: none\nlimits: {launches_per_minute: 1000}"
        cluster = subject.cluster(Path(directory), cloud, machines, pools, more, f"head_address: {gateway}")
        try:
            cluster.up(timeout=240)
            joined = time.monotonic()
            launches = [at for at, action, _ in cloud.world.calls if action in subject.launches]
            work, head = machines_work(machines), head_work(cluster)
        finally:
            cluster.clean_up()
    title, seconds, cores = subject.title, joined - launches[0] - BOOT, os.cpu_count() or 1
    rows = [row(f"{title}: {count} nodes joined after boot, {cores} cores for all", seconds, None, "", "s", goal)]
    if count > 1:
        rows.append(row(f"{title}: of it {count} machines' own work / {cores} cores", work / cores, None, "", "s", ""))
        rows.append(row(f"{title}: of it the head's processor time, {count} nodes", head, None, "", "s", ""))
    return rows


def machines_work(machines: Any) -> float:
    """Processor seconds of all processes in the machines so far."""
    spent = 0.0
    for root in machines.machines.pids():
        with contextlib.suppress(psutil.Error):
            first = psutil.Process(root)
            for process in [first, *first.children(recursive=True)]:
                times = process.cpu_times()
                spent += times.user + times.system + times.children_user + times.children_system
    return spent


def head_work(cluster: Any) -> float:
    spent = 0.0
    for process in cluster.processes():
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            spent += times.user + times.system
    return spent
