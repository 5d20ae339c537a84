"""What tasks leave behind. The agent adopts orphans (it is a subreaper): whatever outlives its parents anywhere below a task,
in whichever session, becomes a child of the agent, so that one look at its own children finds the leftovers of all tasks.

Whose an orphan is, its group, its session or the mark in its environment tells. One that has neither, as `env -i setsid` makes
them, is of one of the tasks that ran when it was born: it goes when the last of these has ended. What the engine, or setup,
has started is nobody's leftover.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from clusterctl_runtime.agent.tasks.environ import TASK_MARK
from clusterctl_runtime.agent.tasks.processes import Process, list_children, read_process

_SET_CHILD_SUBREAPER = 36  # of prctl(2)
_MARK = re.compile(rb"(?:^|\0)%b=([^\0]*)\0" % TASK_MARK.encode())
# A dead child that nobody has waited for after so long is nobody's: those that the agent itself starts are waited for at once.
_UNCLAIMED_SECONDS = 1.0


class Running(NamedTuple):
    """The program of a task of which something may live: its number, which is also that of its session and group; when it was
    born, and until when what it starts may have to be known by its age: later than that it is in a control group. Both in
    ticks since the machine's boot."""

    leader: int
    born: int
    until: float


@dataclass
class Orphan:
    """`owners`: tasks that it may be of and that are not over yet. None: its time has come."""

    pid: int
    owners: set[str]


def adopt_orphans() -> bool:
    """From now on orphans below this process become its children. False where the system has no such thing."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        return ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    except (OSError, AttributeError):
        return False


class Orphans:
    """`running`: the tasks that are not over yet, by id, and `leaders` their ids by their programs; `known(task)`: whether this
    agent ever had it; `others_start()`: whether something other than tasks may leave daemons here now (setup); `mark`: in the
    environment of all that the agent starts."""

    def __init__(
        self,
        running: Mapping[str, Running],
        leaders: Mapping[int, str],
        known: Callable[[str], bool],
        others_start: Callable[[], bool],
        mark: str,
    ) -> None:
        self._running, self._leaders = running, leaders
        self._known, self._others_start = known, others_start
        self._mark = mark.encode()
        self._own_environment = _environment(os.getpid())
        self._adopted: dict[int, Orphan] = {}
        self._others: dict[int, int] = {}  # children that are none of tasks', and their sessions
        self._unsure: dict[int, float] = {}  # since when: dead and not waited for, or not yet another program than ours

    def spare(self, pid: int) -> None:
        """This child is none of tasks'."""
        self._adopted.pop(pid, None)
        self._others[pid] = 0

    def remain(self, task: str) -> bool:
        """Whether processes of that task are left, its program aside."""
        return bool(self.list_pids(task))

    def list_pids(self, task: str) -> set[int]:
        """Those that can only be that task's."""
        self.look()
        return {orphan.pid for orphan in self._adopted.values() if orphan.owners == {task}}

    def kill(self, task: str = "") -> None:
        """Those known that can only be that task's, and those whose tasks are over. What they leave the next look finds."""
        for orphan in self._adopted.values():
            if not orphan.owners - {task}:
                with contextlib.suppress(OSError):
                    os.kill(orphan.pid, signal.SIGKILL)  # nobody has waited for it: its number is not a stranger's
        self._collect()

    def tidy(self) -> None:
        """Collects the dead that nobody waits for."""
        for pid in list(self._others):
            process = read_process(pid)
            if process and process.zombie and self._is_old(pid):
                self._adopted[pid] = Orphan(pid, set())
                del self._others[pid]
        self._collect()

    def look(self) -> None:
        """Notes new orphans, and forgets those that have ended."""
        children = list_children(os.getpid())
        self._collect()
        for orphan in self._adopted.values():
            orphan.owners &= self._running.keys()
        self._others = {pid: session for pid, session in self._others.items() if pid in children}
        self._unsure = {pid: since for pid, since in self._unsure.items() if pid in children}
        for pid in children - self._leaders.keys() - self._adopted.keys() - self._others.keys():
            self._judge(pid)

    def _judge(self, pid: int) -> None:
        process = read_process(pid)
        if process is None:
            return
        owner = self._leaders.get(process.session) or self._leaders.get(process.group)
        if owner:
            self._adopted[pid] = Orphan(pid, {owner})
        elif process.zombie:
            if self._is_old(pid):
                self._adopted[pid] = Orphan(pid, set())
        else:
            self._judge_by_environment(process)

    def _judge_by_environment(self, process: Process) -> None:
        environment, running = _environment(process.pid), self._running
        if environment == self._own_environment and not self._is_old(process.pid):
            return  # our own, about to become another program
        marked = _MARK.search(environment) if self._mark in environment else None
        name = marked[1].decode(errors="replace") if marked else ""
        if self._known(name):
            self._adopted[process.pid] = Orphan(process.pid, {name} & running.keys())
        elif self._mark in environment and not name:
            self._others[process.pid] = process.session
        elif process.session in self._others.values() or self._others_start():
            self._others[process.pid] = 0
        elif owners := {name for name, task in running.items() if task.born <= process.started <= task.until}:
            self._adopted[process.pid] = Orphan(process.pid, owners)
        else:
            self._others[process.pid] = 0

    def _is_old(self, pid: int) -> bool:
        now = time.monotonic()
        return now - self._unsure.setdefault(pid, now) > _UNCLAIMED_SECONDS

    def _collect(self) -> None:
        for pid in list(self._adopted):
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0] == 0:
                    continue
            del self._adopted[pid]


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""  # gone, or another user's
