"""Finding and ending the processes of a local node, by the mark in their environment.

A process id proves nothing (it may be another program's by now); the mark that every descendant inherits does.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path

import psutil
from clusterctl_runtime.backoff import Backoff, wait_until

MARK = "CLUSTERCTL_INSTANCE"
RECORD = "CLUSTERCTL_RECORD"  # where the record of a node's agent is, to be known by those that look for lost ones
_PROC = Path("/proc")
_ON_LINUX = sys.platform.startswith("linux")
FIRST_PAUSE = 0.002  # seconds between two looks at processes that end; doubles up to LONGEST_PAUSE
LONGEST_PAUSE = 0.05
YOUNG = 5.0  # seconds after its start in which a process without any environment may still be starting
STARTING_LIMIT = 1.0  # seconds for which that is waited out
KILL_LIMIT = 10.0  # seconds after which a process that survives SIGKILL is given up and named


def instance_of(pid: int) -> str:
    """The instance that a living process belongs to, "" for none, for a process that has ended or is another user's."""
    return variable(pid, MARK)


def belongs_to(pid: int, instance: str) -> bool:
    """Whether the living process `pid` is the instance's. A program that is being started has no environment for an
    instant: that is waited out, since taking it for a stranger would lose it. Both are told from one and the same
    reading: between two of them the program may have come to its environment."""
    deadline = time.monotonic() + STARTING_LIMIT
    while (environment := _environment(pid)) == b"" and _is_young(pid) and time.monotonic() < deadline:
        time.sleep(FIRST_PAUSE)
    return _value(environment, MARK) == instance and is_alive(pid)


def _environment(pid: int) -> bytes | None:
    """Its variables, each ended by a zero byte; None for a process that has ended or that we may not look at."""
    try:
        if _ON_LINUX:
            return (_PROC / str(pid) / "environ").read_bytes()
        return b"".join(f"{name}={value}\0".encode() for name, value in psutil.Process(pid).environ().items())
    except (OSError, psutil.Error):
        return None


def variable(pid: int, name: str) -> str:
    """A variable of a living process, "" where it has none or is none that we may look at."""
    return _value(_environment(pid), name)


def _value(environment: bytes | None, name: str) -> str:
    match = re.search(rb"(?:^|\0)%b=([^\0]*)" % name.encode(), environment or b"")
    return match.group(1).decode(errors="replace") if match else ""


def _is_young(pid: int) -> bool:
    try:
        return _age(pid) < YOUNG and is_alive(pid)
    except (psutil.Error, OSError):
        return False


def _age(pid: int) -> float:
    """Seconds since the process was started; on Linux by the kernel's own count, which nobody can set."""
    if not _ON_LINUX:
        return time.time() - psutil.Process(pid).create_time()
    started = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()[19]  # field 22, in ticks since boot
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(started) / os.sysconf("SC_CLK_TCK")


def marked_processes() -> dict[str, set[int]]:
    """Instance -> ids of its living processes, over all processes of this machine that we may look at."""
    found: dict[str, set[int]] = {}
    for pid in psutil.pids():
        instance = instance_of(pid)
        if instance and is_alive(pid):
            found.setdefault(instance, set()).add(pid)
    return found


def is_alive(pid: int) -> bool:
    """False for zombies: they hold nothing and only wait for their parent."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.Error:
        return False


def end_processes(agents: Mapping[str, int], grace: float) -> set[int]:
    """Ends all processes of the instances in `agents` (instance -> its agent's pid or 0). The agent gets SIGTERM and at
    most `grace` seconds to end its work in order; then everything that bears the mark, or descended from what bears
    it, is killed, again and again until a look finds nothing. Returns what could not be ended."""
    heads = [pid for instance, pid in agents.items() if pid and belongs_to(pid, instance)]
    family = _family(_marked(agents) | set(heads))
    for pid in heads:
        with contextlib.suppress(psutil.Error):
            psutil.Process(pid).terminate()
    wait_until(lambda: not any(is_alive(pid) for pid in heads), Backoff(FIRST_PAUSE, LONGEST_PAUSE, seconds=grace))
    pauses = Backoff(FIRST_PAUSE, LONGEST_PAUSE, seconds=KILL_LIMIT)
    while rest := _alive(family | _family(_marked(agents))):
        family |= rest
        for process in rest:
            with contextlib.suppress(psutil.Error):
                process.kill()
        if not pauses.wait():
            break
    return {process.pid for process in rest}


def _marked(instances: Collection[str]) -> set[int]:
    return {pid for pid in psutil.pids() if instance_of(pid) in instances}


def _alive(processes: set[psutil.Process]) -> set[psutil.Process]:
    """psutil compares start times: a process id that is someone else's by now is not alive in this sense."""
    return {process for process in processes if process.is_running() and is_alive(process.pid)}


def _family(pids: set[int]) -> set[psutil.Process]:
    """The processes and all that descends from them now: some programs overwrite their environment with a title, and
    only their parents show whose they are."""
    found: set[psutil.Process] = set()
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            found.add(process)
            found.update(process.children(recursive=True))
    return found
