"""One head under the load of a fleet: agents simulated in other processes, tasks that run nowhere.

`make bench ONLY=headload`; CROWD_AGENTS and CROWD_TASKS choose another size. What is to be seen is that nothing in the head's
event loop grows with the fleet: the peer of each figure is a fleet a tenth as large, on the same machine. The crowd and whatever
else runs here compete with the head for processors: "loop busy" is the part of "loop late" which the head computed itself.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.rows import Row, percentile, row
from tests.support.cluster import wait_until
from tests.support.crowd import CrowdedHead

AGENTS = int(os.environ.get("CROWD_AGENTS", "2500"))
TASKS = int(os.environ.get("CROWD_TASKS", "100000"))
STARTS = 200.0  # a second, from the second wave on
Figures = dict[str, float]


def run() -> list[Row]:
    ours, tenth = measure(AGENTS, TASKS), measure(max(1, AGENTS // 10), max(1, TASKS // 10))
    goals = {"memory": "<= 400", "restart": "<= 3", "all back": "<= 20", "loop": "<= 0.1", "beats": "<= 1"}
    peer = f"{max(1, AGENTS // 10)} agents"
    return [
        row(f"{name} ({AGENTS} agents)", value, tenth[name], peer, _unit(name), _goal(name, goals))
        for name, value in ours.items()
    ]


def _unit(name: str) -> str:
    return "MiB" if name.startswith("memory") else "starts/s" if name.startswith("starts") else "s"


def _goal(name: str, goals: dict[str, str]) -> str:
    return next((goal for start, goal in goals.items() if name.startswith(start)), "")


def measure(agents: int, tasks: int, seconds: float = 20.0) -> Figures:
    """All figures of one fleet; `seconds` is how long each of its phases lasts that has no end of its own."""
    with tempfile.TemporaryDirectory() as directory:
        head = CrowdedHead(Path(directory), agents, processes=2 if agents > 500 else 1)
        try:
            return _Load(head, agents, tasks, seconds).run()
        finally:
            head.close()


class _Load:
    """The phases, one after the other, each with the loop's delays and the slowest heartbeats in it."""

    def __init__(self, head: CrowdedHead, agents: int, tasks: int, seconds: float) -> None:
        self.head, self.agents, self.tasks, self.seconds = head, agents, tasks, seconds
        self.figures: Figures = {}

    def run(self) -> Figures:
        head, slots = self.head, 4 * self.agents
        head.start()
        head.gather()
        self._phase("joins", self._join)
        self.figures["memory, idle"] = head.memory()
        for _ in range(5):
            head.watch("/api/v1/status?watch=1", 3600)
        self._phase("submit", lambda: self._submit(max(10.0, slots / STARTS)))
        head.watch("/api/v1/jobs/load.0/watch", 3600)
        self._phase("first wave", lambda: self._wait_for_starts(min(slots, self.tasks)))
        self.figures["memory, queued"] = head.memory()
        if self.tasks > slots:  # the next ones start as those of the first wave end
            wait_until(lambda: head.ask()["running"] >= slots, 600, "the first wave is complete")
            head.ask("reset")
            wait_until(lambda: head.ask()["started"] > 0, 600, "the second wave begins")
        self._phase("starts", lambda: time.sleep(self.seconds))
        self.figures["starts/s"] = self._started / self.seconds
        head.kill()
        self.figures["restart, to the first answer"] = head.start()
        self._phase("all back", self._come_back)
        self._phase("mass retries", self._fail_all)
        self._phase("cancel", self._cancel)
        self.figures["memory, at last"] = head.memory()
        return self.figures

    def _phase(self, name: str, act: Callable[[], None]) -> None:
        self.head.ask("reset")
        before, used, started = delays(self.head), self.head.cpu(), time.monotonic()
        act()
        self.figures[name] = time.monotonic() - started
        self.figures[f"head's CPU, {name}"] = self.head.cpu() - used
        told = self.head.ask("reset")
        self._started = told["started"]
        assert not told["again"], "no task may be sent twice"
        after = delays(self.head)
        for kind in after:
            self.figures[f"loop {kind} at p99.9, {name}"] = quantile(after[kind], before[kind], 0.999)
        if told["beats"]:
            self.figures[f"beats answered at p99, {name}"] = percentile(told["beats"], 0.99)

    def _join(self) -> None:
        self.head.everybody_is_back()
        wait_until(lambda: self.head.ready() >= self.agents, 600, "all nodes are ready")

    def _submit(self, lasts: float) -> None:
        # random would do as well; the same length for all keeps the waves apart, which is the worst case
        env = {"SIM_SECONDS": f"{lasts:g}"}
        body: dict[str, Any] = {"argv": ["true"], "env": env, "max_retries": 3, "submission_id": "load"}
        self.head.call("POST", "/api/v1/jobs", {**body, "array": list(range(self.tasks))})

    def _wait_for_starts(self, number: int) -> None:
        wait_until(lambda: self.head.ask()["running"] >= number * 0.9, 600, "the first wave runs")

    def _come_back(self) -> None:
        self.head.everybody_is_back()

    def _fail_all(self) -> None:
        self.head.ask("fail")
        wait_until(lambda: self.head.ask()["running"] >= min(4 * self.agents, self.tasks) * 0.5, 600, "they run again")

    def _cancel(self) -> None:
        self.head.call("POST", "/api/v1/jobs/load/cancel")
        wait_until(lambda: self.head.ask()["running"] == 0, 600, "nothing runs any more")


def delays(head: CrowdedHead) -> dict[str, dict[float, float]]:
    """The head's own histograms of its loop's delays, "late" and "busy": upper bound in seconds -> how many were at most so
    long."""
    found = re.findall(
        r'clusterctl_loop_(late|busy)_seconds_bucket\{le="([^"]+)"\} (\S+)', head.call("GET", "/metrics")
    )
    return {kind: {float(bound): float(count) for of, bound, count in found if of == kind} for kind in ("late", "busy")}


def quantile(after: dict[float, float], before: dict[float, float], q: float) -> float:
    """The bound within which that part of the delays between two looks was; `before` counts nothing where it is of an
    earlier process."""
    if after[float("inf")] < before[float("inf")]:
        before = dict.fromkeys(after, 0.0)
    total = after[float("inf")] - before[float("inf")]
    return next(bound for bound in sorted(after) if after[bound] - before[bound] >= q * total)
