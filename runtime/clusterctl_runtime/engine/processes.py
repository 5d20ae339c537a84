"""Finding and ending every process of one raylet, also those that left its process group. Standard library only.

Ray gives each of its workers a process group of its own, so a group is not enough: all of them carry a mark in their environment
and most of them the session of the first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

MARK = "CLUSTERCTL_ENGINE_MARK"
_PROC = Path("/proc")


def marked(mark: str, session: int = 0) -> list[int]:
    """Pids of this user's processes with `MARK=mark` in their environment, or in the session; never our own."""
    found = _marked_by_proc(mark, session) if (_PROC / "self" / "environ").exists() else _marked_by_ps(mark)
    return [pid for pid in found if pid != os.getpid()]


def _marked_by_proc(mark: str, session: int) -> list[int]:
    wanted, found = f"{MARK}={mark}".encode(), []
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            after_name = (entry / "stat").read_bytes().rpartition(b")")[2].split()
            if after_name[0] in (b"Z", b"X"):
                continue
            if (session and int(after_name[3]) == session) or wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def _marked_by_ps(mark: str) -> list[int]:
    """Outside Linux `ps` shows the environment of one's own processes after their arguments."""
    listing = subprocess.run(["ps", "axeww", "-o", "pid=,command="], capture_output=True, text=True, check=False).stdout
    lines = (line.split(None, 1) for line in listing.splitlines() if f"{MARK}={mark}" in line)
    return [int(parts[0]) for parts in lines]


async def end_marked(mark: str, session: int = 0, grace: float = 0.0) -> None:
    """SIGTERM, then after `grace` seconds SIGKILL, to all of them; returns when none is left (or after 10 s of kills)."""
    if grace > 0:
        _signal_all(marked(mark, session), signal.SIGTERM)
        await _until_gone(mark, session, grace)
    deadline = time.monotonic() + 10.0
    while (left := marked(mark, session)) and time.monotonic() < deadline:
        _signal_all(left, signal.SIGKILL)
        await asyncio.sleep(0.02)


async def _until_gone(mark: str, session: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not marked(mark, session):
            return
        await asyncio.sleep(0.05)


def _signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
