"""No task outlives its agent: a small process holds the other end of a pipe and kills what is left when it breaks.

Everything the agent starts carries the agent's mark in its environment, and the agent writes every process group to the
pipe. On the end of the pipe, however the agent died, the watchdog kills both kinds until none is found. The mark also
finds programs that left their group, and those started in the instant before the agent was killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from clusterctl_runtime.agent.tasks.cgroups import end_group
from clusterctl_runtime.agent.tasks.processes import list_family

MARK = "CLUSTERCTL_LEASH"  # the name that agents of all versions look for


def mark_children(boot_id: str) -> None:
    """Marks this process' future children. A node that is itself someone's task keeps that mark too."""
    outer = os.environ.get(MARK)
    os.environ[MARK] = f"{outer}:{boot_id}" if outer else boot_id


class Watchdog:
    """The agent's end of the pipe. `pid` is the process that watches."""

    def __init__(self, boot_id: str) -> None:
        self._boot_id = boot_id
        self._pipe = -1
        self._records: list[str] = []
        self._groups: set[int] = set()
        self._control_group = ""
        self.pid = 0
        self.start()

    def start(self) -> None:
        """Forks the watchdog; called again when it was killed."""
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                _watch(read, self._boot_id)
            finally:
                os._exit(0)
        os.close(read)
        if self._pipe >= 0:
            os.close(self._pipe)
        os.set_blocking(write, False)
        self._pipe, self.pid = write, pid
        self._records = [f"={self._control_group}\n", *(f"+{group}\n" for group in self._groups)]
        self.write()

    def add(self, group: int) -> None:
        """Notes a process group that is to go with the agent; the watchdog knows with the next `write`."""
        self._groups.add(group)
        self._records.append(f"+{group}\n")

    def watch_group(self, path: str) -> None:
        """All that is in this control group goes, too."""
        self._control_group = path
        self._records.append(f"={path}\n")
        self.write()

    def remove(self, group: int) -> None:
        """Called before the group's leader is reaped, so that its number cannot belong to a stranger yet."""
        self._groups.discard(group)
        self._records.append(f"-{group}\n")

    def write(self) -> None:
        """What was noted since the last call, in one write. A full pipe (a stopped watchdog) never stops the agent: the
        mark finds the processes without it."""
        if self._records:
            data = "".join(self._records).encode()
            self._records.clear()
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                os.write(self._pipe, data)


def _watch(pipe: int, boot_id: str) -> None:
    """The watchdog: reads groups until the pipe ends, then kills."""
    agents_session = os.getsid(0)
    os.setsid()
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    os.dup2(pipe, 3)
    os.closerange(4, min(os.sysconf("SC_OPEN_MAX"), 65536))
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    groups: set[int] = set()
    control_group = ""
    rest = b""
    while data := os.read(3, 65536):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line[:1] == b"=":
                control_group = os.fsdecode(line[1:])
            elif line[:1] == b"+":
                groups.add(int(line[1:]))
            else:
                groups.discard(int(line[1:]))
    if control_group:
        end_group(control_group)
    sweep(boot_id, groups, agents_session)
    if control_group:
        end_group(control_group)


def sweep(boot_id: str, groups: set[int], agents_session: int) -> int:
    """Kills whatever has the mark or is of the groups' family, until two looks in a row find none; returns how many."""
    killed: set[int] = set()
    for group in groups:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)
    quiet = 0
    deadline = time.monotonic() + 30
    while quiet < 2 and time.monotonic() < deadline:
        found, sessions = list_family(boot_id, groups, agents_session)
        groups |= sessions
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        killed.update(found)
        quiet = 0 if found else quiet + 1
        if quiet < 2:
            time.sleep(0.02)
    return len(killed)
