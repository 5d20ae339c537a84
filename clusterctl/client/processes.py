"""What a process id stands for: ids are used again, so one is believed only by its command line, or by its start."""

from __future__ import annotations

import os
from pathlib import Path


def arguments_of(pid: int) -> list[bytes]:
    """The command line of a process of this machine; empty when there is none that we may look at."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        import psutil  # only where there is no /proc

        try:
            return [os.fsencode(part) for part in psutil.Process(pid).cmdline()]
        except psutil.Error:
            return []


def is_running(pid: int) -> bool:
    """Whether `pid` is a live process of this user (a zombie is not alive)."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    fields = _stat(pid)
    return not fields or fields[0] not in (b"Z", b"X")


def is_same(pid: int, start_ticks: int | None) -> bool:
    """Whether `pid` is still the live process of this user that was started at `start_ticks`, in the kernel's ticks; None
    where the system does not say so, and then the id alone has to do."""
    if not is_running(pid):
        return False
    fields = _stat(pid)
    return start_ticks is None or not fields or int(fields[19]) == start_ticks


def _stat(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat after the command's name, from the state on; [] where there is no such file."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123  /proc is read whole, at once
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []
