"""All that is measured here now and then, for a heartbeat to carry."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from clusterctl_runtime.agent.measuring.gpus import GpuFigures, indices, total_use
from clusterctl_runtime.agent.measuring.jobs import JobFigures, Running
from clusterctl_runtime.agent.measuring.machine import Machine

log = logging.getLogger(__name__)
EVERY = 10.0  # seconds between two looks


class Measures:
    """`tasks()` are those that run now. It looks when it is asked, not by itself, and in a thread: a driver takes its time, or
    never answers, and then nothing is told any more."""

    def __init__(
        self, places: Mapping[str, Path], gpu_trouble: Callable[[], str], tasks: Callable[[], list[Running]]
    ) -> None:
        self._machine, self._gpus, self._jobs = Machine(places), GpuFigures(gpu_trouble), JobFigures()
        self._tasks = tasks
        self._due = self._before = time.monotonic()
        self._seconds: float | None = self._machine.look()["node"].get("cpu_seconds")
        self._looking: asyncio.Future[dict[str, Any]] | None = None

    def news(self) -> dict[str, Any]:
        """What the last look has found, told once: {"use": {"cpu", "memory", "gpu", "gpu_memory"}, "figures": {"node", "disks",
        "gpus", "jobs"}} (see `Machine`, `GpuFigures`, `JobFigures`); {} where there is nothing new."""
        found: dict[str, Any] = {}
        if self._looking is not None and self._looking.done():
            if error := self._looking.exception():
                log.warning("what is in use here could not be measured: %r", error)
            else:
                found = self._looking.result()
            self._looking = None
        if self._looking is None and time.monotonic() >= self._due:
            self._due = time.monotonic() + EVERY
            self._looking = asyncio.get_running_loop().run_in_executor(None, self._look, self._tasks())
        return found

    def _look(self, tasks: list[Running]) -> dict[str, Any]:
        figures = self._machine.look()
        node, now = figures["node"], time.monotonic()
        use: dict[str, float] = {}
        if (seconds := node.get("cpu_seconds")) is not None:
            if self._seconds is not None:
                use["cpu"] = round(max(0.0, seconds - self._seconds) / max(0.01, now - self._before), 3)
            self._seconds, self._before = seconds, now
        if "memory_used" in node:
            use["memory"] = node["memory_used"]
        gpus: dict[str, dict[str, Any]] = {}
        if answer := self._gpus.look():
            gpus, sick = answer
            node["gpu_trouble"] = int(sick)
        jobs = self._jobs.look(tasks)
        for job in jobs.values():
            devices: dict[str, float] = job.pop("devices")
            named = zip(indices(list(devices), gpus), devices.values(), strict=True)
            job["gpus"] = {index: share for index, share in named if index}
        return {"use": {**use, **total_use(gpus)}, "figures": {**figures, "gpus": gpus, "jobs": jobs}}
