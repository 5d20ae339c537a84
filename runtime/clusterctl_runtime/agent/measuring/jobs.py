"""What the processes of jobs use: found by the control group of each task, or by the mark in their environment."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from clusterctl_runtime.agent.measuring.machine import cpu_seconds_of
from clusterctl_runtime.agent.tasks.cgroups import ControlGroup
from clusterctl_runtime.agent.tasks.environ import TASK_MARK
from clusterctl_runtime.agent.tasks.processes import list_tasks

MOST = 64  # jobs that are told of, those with the most memory
_PROC = Path("/proc")


class Running(NamedTuple):
    """A task that runs. `gpus`: names of its GPUs, as CUDA_VISIBLE_DEVICES has them; `share`: how much of each."""

    task: str
    group: ControlGroup | None
    gpus: Sequence[str] = ()
    share: float = 0.0


class _Look(NamedTuple):
    """At one process: CPU seconds with those of its children that it has waited for, bytes."""

    started: int
    cpu: float
    memory: int
    read: int
    written: int


@dataclass
class _Sums:
    """Of one task, as it is measured from look to look."""

    cpu: float = 0.0
    read: int = 0
    written: int = 0
    seen: dict[int, _Look] = field(default_factory=dict)


class JobFigures:
    """Reads /proc for each process: not for the event loop."""

    def __init__(self) -> None:
        self._sums: dict[str, _Sums] = {}
        self._over: dict[str, _Sums] = {}  # by job: of its tasks that have ended, while it has others here

    def look(self, tasks: Iterable[Running]) -> dict[str, dict[str, Any]]:
        """Job id -> {"cpu_seconds", "memory", "processes", "read", "written" (bytes), "devices": {name of a GPU: share}}. What
        was used never falls while anything of the job runs here."""
        tasks = list(tasks)
        apart = {} if all(task.group for task in tasks) else list_tasks(TASK_MARK)
        self._keep({task.task for task in tasks})
        found: dict[str, dict[str, Any]] = {}
        for task in tasks:
            pids = task.group.pids() if task.group else [process.pid for process in apart.get(task.task, ())]
            seen = {pid: look for pid in pids if (look := _look(pid)) is not None}
            sums = self._sums[task.task]
            _add(sums, seen, cpu_seconds_of(task.group.path) if task.group else None)
            over = self._over.get(_job(task.task), _Sums())
            before = {"devices": {}, "cpu_seconds": over.cpu, "read": over.read, "written": over.written}
            told = found.setdefault(_job(task.task), before)
            figures = {
                "cpu_seconds": sums.cpu,
                "memory": sum(look.memory for look in seen.values()),
                "processes": len(seen),
                "read": sums.read,
                "written": sums.written,
            }
            for key, value in figures.items():
                told[key] = told.get(key, 0) + value
            for name in task.gpus:
                told["devices"][name] = min(1.0, told["devices"].get(name, 0.0) + task.share)
        for told in found.values():
            told["cpu_seconds"] = round(told["cpu_seconds"], 2)
        most = sorted(found, key=lambda job: -found[job]["memory"])[:MOST]
        return {job: found[job] for job in most}

    def _keep(self, running: set[str]) -> None:
        here = {_job(task) for task in running}
        self._over = {job: sums for job, sums in self._over.items() if job in here}
        for task, sums in self._sums.items():
            if task not in running and _job(task) in here:
                over = self._over.setdefault(_job(task), _Sums())
                over.cpu, over.read, over.written = (
                    over.cpu + sums.cpu,
                    over.read + sums.read,
                    over.written + sums.written,
                )
        self._sums = {task: self._sums.get(task, _Sums()) for task in running}


def _job(task: str) -> str:
    return task.split("/")[0]


def _add(sums: _Sums, seen: dict[int, _Look], cpu_of_group: float | None) -> None:
    """CPU time of those that have ended is with who waited for them. What one read between the last look and its end is not
    known."""
    for pid, look in seen.items():
        before = sums.seen.get(pid)
        known = before if before is not None and before.started == look.started else _Look(0, 0.0, 0, 0, 0)
        sums.read += max(0, look.read - known.read)
        sums.written += max(0, look.written - known.written)
    own = sum(look.cpu for look in seen.values())
    sums.cpu = cpu_of_group if cpu_of_group is not None else max(sums.cpu, own)
    sums.seen = seen


def _look(pid: int) -> _Look | None:
    """None for one that has ended."""
    try:
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        cpu = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
        memory = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
        started = int(fields[19])
    except (OSError, ValueError, IndexError):
        return None
    read = written = 0
    try:
        lines = (_PROC / str(pid) / "io").read_text().splitlines()
        told = dict(line.split(": ", 1) for line in lines)
        read, written = int(told["read_bytes"]), int(told["write_bytes"])
    except (OSError, ValueError, KeyError):
        pass  # another user's
    return _Look(started, cpu, memory, read, written)
