"""Nothing of a task outlives it: whatever it has started, in whichever session, is asked to end with it and killed after it.

A control group holds all of it where one can be made; else orphans that the agent adopts and the mark in the environment
tell (see `cgroups`, `orphans`). What is killed and when: docs/jobs.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
import time
from collections.abc import Callable

from clusterctl_runtime.agent.tasks.cgroups import ControlGroups
from clusterctl_runtime.agent.tasks.environ import TASK_MARK
from clusterctl_runtime.agent.tasks.orphans import Orphans, Running, adopt_orphans
from clusterctl_runtime.agent.tasks.processes import is_group_alive, list_tasks, read_process
from clusterctl_runtime.agent.tasks.task import ENDED, LINGERING, RUNNING, Task

log = logging.getLogger(__name__)
TIDY_SECONDS = 1.0
_REMEMBERED = 10_000  # tasks that are over and whose mark is still recognised


class Leftovers:
    """`mark` is in the environment of all that the agent starts; `others_start()` says whether something else than tasks may
    leave daemons here now. Knows a task from its start until nothing of it is left."""

    def __init__(self, mark: str, groups: ControlGroups | None, others_start: Callable[[], bool]) -> None:
        self._loop = asyncio.get_running_loop()
        self._groups = groups
        self._adopts = adopt_orphans()
        self._here: dict[str, Task] = {}
        self._programs: dict[str, Running] = {}  # of those
        self._leaders: dict[int, str] = {}
        self._past: dict[str, None] = {}
        self._orphans = Orphans(self._programs, self._leaders, self._is_known, others_start, mark)
        self._asked: list[Task] = []
        self._tidying = self._loop.call_later(TIDY_SECONDS, self._tidy)

    def spare(self, pid: int) -> None:
        """It is the agent's own, and lives as long as it is needed, whichever task runs when it is born."""
        self._orphans.spare(pid)

    def about_to_begin(self) -> None:
        """What is there before a task is none of its."""
        self._orphans.look()

    def began(self, task: Task) -> None:
        """Its program has just been started."""
        self._here[task.id] = task
        process = read_process(task.report.pid)
        if self._groups:
            task.group = self._groups.take(task.report.pid)
        self._leaders[task.report.pid] = task.id
        until = _ticks() if task.group else math.inf
        self._programs[task.id] = Running(task.report.pid, process.started if process else 0, until)

    def ask(self, task: Task) -> None:
        """SIGTERM to all of it: one look at all processes, however many tasks are to end, since some have children apart."""
        if not self._asked:
            self._loop.call_soon(self._ask_all)
        self._asked.append(task)

    def _ask_all(self) -> None:
        asked = [task for task in self._asked if task.stage in (RUNNING, LINGERING)]
        self._asked = []
        apart = {} if all(task.group for task in asked) else list_tasks(TASK_MARK)
        for task in asked:
            for number in (signal.SIGTERM, signal.SIGCONT):
                _signal_group(task, number)
            pids = task.group.pids() if task.group else [process.pid for process in apart.get(task.id, ())]
            for pid in self._orphans.list_pids(task.id).union(pids):
                with contextlib.suppress(OSError):
                    if os.getpgid(pid) != task.report.pid:
                        os.kill(pid, signal.SIGTERM)

    def kill(self, task: Task) -> None:
        """The program's group, whoever is in its control group, and orphans that can only be its own."""
        _signal_group(task, signal.SIGKILL)
        if task.group:
            task.group.kill()
        self._orphans.kill(task.id)

    def remain(self, task: Task) -> bool:
        """Whether anything of a task whose program is dead still lives; zombies do not."""
        if not self._adopts and is_group_alive(task.report.pid):
            return True
        if task.group and task.group.remove():
            task.group = None
        return self._orphans.remain(task.id) or task.group is not None

    def gone(self, task: Task) -> None:
        """Nothing of it is left."""
        self._programs.pop(task.id, None)
        if self._here.pop(task.id, None) is None:
            return
        if self._leaders.get(task.report.pid) == task.id:
            del self._leaders[task.report.pid]
        self._past[task.id] = None
        if len(self._past) > _REMEMBERED:
            del self._past[next(iter(self._past))]

    def close(self) -> None:
        """Ends the tidying, and removes the agent's control group where it is empty."""
        self._tidying.cancel()
        if self._groups:
            self._groups.close()

    def _tidy(self) -> None:
        """Now and then: what is left of tasks that have ended (it waits for a disk or a driver, and cannot die), orphans that may
        have been several tasks', and the dead that nobody has waited for."""
        for task in [task for task in self._here.values() if task.stage == ENDED]:
            self.kill(task)
            if not self.remain(task):
                self.gone(task)
        self._orphans.look()
        self._orphans.kill()
        self._orphans.tidy()
        self._tidying = self._loop.call_later(TIDY_SECONDS, self._tidy)

    def _is_known(self, task_id: str) -> bool:
        return task_id in self._here or task_id in self._past


def _ticks() -> int:
    """Since the machine's boot, as processes are told the time of their birth."""
    return math.ceil(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def _signal_group(task: Task, number: int) -> None:
    """Its process group, whose number is its own for as long as nobody has waited for its program."""
    if task.stage not in (RUNNING, LINGERING):
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(task.report.pid, number)
