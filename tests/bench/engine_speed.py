"""The engine's own speed on a cluster of ours against the same Ray started by hand: both run side by side, a head without CPUs
and a worker of one, and take turns, many times. What slows the machine down for a while slows both, so that the ratio of each
pair says more than the two figures."""

from __future__ import annotations

import contextlib
import random
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.by_hand import ray_by_hand
from tests.bench.rows import Row, row
from tests.support.cluster import LocalCluster

PAIRS = 150
WARM_UP = 3
SPEC = """\
cluster: bench
provider: local
pools:
  - {name: cpu, min: 1, max: 1, resources: {CPU: 1}}
"""
WHAT = {
    "tasks": ("Ray's own tasks", "tasks/s"),
    "calls": ("calls of an actor", "calls/s"),
    "puts": ("objects of 1 MiB put", "objects/s"),
}
DRIVER = """
import os, socket, time
import numpy, ray

ray.init(logging_level="ERROR")

@ray.remote(num_cpus=0.5)
def noop():
    return None

@ray.remote(num_cpus=0.5)
class Actor:
    def noop(self):
        return None

actor, block = Actor.remote(), numpy.zeros(1 << 20, dtype=numpy.uint8)

def tasks():
    ray.get([noop.remote() for _ in range(300)])
    return 300

def calls():
    ray.get([actor.noop.remote() for _ in range(500)])
    return 500

def puts():
    for _ in range(100):
        ray.put(block)
    return 100

with socket.create_connection(("127.0.0.1", int(os.environ["BENCH_PORT"]))) as asker:
    lines = asker.makefile("rw", buffering=1)
    for what in lines:
        began = time.perf_counter()
        count = globals()[what.strip()]()
        lines.write(f"{count / (time.perf_counter() - began)}\\n")
        lines.flush()
"""


class Driver:
    """A driver that waits for the name of what it is to do next, and answers with how many of it it did in a second."""

    def __init__(self, listener: socket.socket) -> None:
        listener.settimeout(180)
        self._socket, _ = listener.accept()
        self._socket.settimeout(180)
        self._lines = self._socket.makefile("rw", buffering=1)

    def rate(self, what: str) -> float:
        self._lines.write(f"{what}\n")
        return float(self._lines.readline())

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


def run() -> list[Row]:
    with _ours() as ours, _by_hand() as by_hand:
        return [_compare(what, ours, by_hand) for what in WHAT]


def _compare(what: str, ours: Driver, by_hand: Driver) -> Row:
    """The two take turns, in an order drawn for each pair. `ratio` is the median of the pairs' own."""
    order, pairs = random.Random(1), list[tuple[float, float]]()
    for number in range(WARM_UP + PAIRS):
        drivers = [ours, by_hand] if order.random() < 0.5 else [by_hand, ours]
        rates = {id(driver): driver.rate(what) for driver in drivers}
        if number >= WARM_UP:
            pairs.append((rates[id(ours)], rates[id(by_hand)]))
    name, unit = WHAT[what]
    ratios = [a / b for a, b in pairs]
    low, high = _interval(ratios)
    first, second = (statistics.median(side) for side in zip(*pairs, strict=True))
    compared = row(
        name, first, second, "ray start by hand", unit, f"0.97x or more; 95 % between {low:.3f}x and {high:.3f}x"
    )
    return {**compared, "ratio": statistics.median(ratios), "pairs": PAIRS, "between": [low, high]}


def _interval(ratios: list[float]) -> tuple[float, float]:
    """Between what the median lies with 95 %, by drawing the pairs again (bootstrap)."""
    draw = random.Random(2)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(2000))
    return medians[50], medians[-51]


@contextlib.contextmanager
def _ours() -> Iterator[Driver]:
    with tempfile.TemporaryDirectory() as directory, socket.create_server(("127.0.0.1", 0)) as listener:
        cluster = LocalCluster(Path(directory), SPEC, "bench")
        try:
            cluster.up(timeout=180)
            program = Path(directory) / "job.py"
            program.write_text(DRIVER)
            port = listener.getsockname()[1]
            cluster.cli("submit", "-d", "--env", f"BENCH_PORT={port}", str(program))
            with contextlib.closing(Driver(listener)) as driver:
                yield driver
        finally:
            cluster.clean_up()


@contextlib.contextmanager
def _by_hand() -> Iterator[Driver]:
    with ray_by_hand() as (env, _), socket.create_server(("127.0.0.1", 0)) as listener:
        env = {**env, "BENCH_PORT": str(listener.getsockname()[1])}
        process = subprocess.Popen([sys.executable, "-c", DRIVER], env=env, stdout=subprocess.DEVNULL)
        try:
            with contextlib.closing(Driver(listener)) as driver:
                yield driver
        finally:
            process.terminate()
            process.wait(timeout=60)
