"""Locks of package managers. A machine that has just booted updates itself, and who installs something meanwhile finds the
lock taken: that passes, and is waited for.

apt and zypper wait themselves when they are told to. Where they are not (`sudo` drops the environment, the lock of apt's lists
has no such setting), what they print says what they lacked.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path

WAIT_SECONDS = 900.0
LOOK_SECONDS = 2.0
LONGEST_LOOK_SECONDS = 60.0  # before the next try all the same
BLIND_SECONDS = 10.0  # before the next try, where nobody can see who has the lock
_LINES = 12  # at the end of a failed command's output, in which its reason is looked for
_BUSY = re.compile(
    rb"Could not get lock|Unable to acquire the dpkg frontend lock|Unable to lock directory|Could not open lock file"
    rb"|is locked by another process|was locked by another process|Existing lock \S+: another copy is running"
    rb"|System management is locked by|can't create transaction lock|[Uu]nable to lock database"
)
_NOT_ALLOWED = re.compile(rb"are you root\?|Permission denied", re.IGNORECASE)
_PATH = re.compile(rb"lock(?: directory| file| on)? \(?(/[\w./-]*\w)")
_HOLDER = re.compile(rb"held by process (\d+) \(([^)\n]{1,40})|by (?:another process|the application) with pid (\d+)")


def patient_environment(environment: Mapping[str, str], directory: Path) -> dict[str, str]:
    """Variables with which package managers wait for their lock and ask nothing; those that the user set stay. The settings of
    apt are written to `directory`."""
    wanted = {"ZYPP_LOCK_TIMEOUT": f"{WAIT_SECONDS:.0f}", "DEBIAN_FRONTEND": "noninteractive"}
    if "APT_CONFIG" not in environment:
        settings = directory / "apt.conf"
        settings.write_text(f'DPkg::Lock::Timeout "{WAIT_SECONDS:.0f}";\n')
        wanted["APT_CONFIG"] = str(settings)
    return {name: value for name, value in wanted.items() if name not in environment}


def busy(said: bytes) -> str:
    """Who has the lock that was found taken, at the end of what a command printed: "the lock /var/lib/dpkg/lock-frontend, which
    process 812 (unattended-upgr) holds"; "" where that was not the trouble."""
    end = b"\n".join(re.split(rb"[\r\n]+", said.rstrip())[-_LINES:])
    if not _BUSY.search(end) or _NOT_ALLOWED.search(end):
        return ""
    path, holder = _PATH.search(end), _HOLDER.search(end)
    text = "the lock of the package manager"
    if path:
        text = f"the lock {os.fsdecode(path[1])}"
    if holder:
        name = f" ({holder[2].decode(errors='backslashreplace')})" if holder[2] else ""
        text += f", which process {(holder[1] or holder[3]).decode()}{name} holds"
    return text


async def until_free(said: bytes, deadline: float) -> None:
    """Waits for the lock that `busy` found, at most until `deadline` (of `time.monotonic`)."""
    path = _PATH.search(said)
    lock = Path(os.fsdecode(path[1])) if path else None
    if lock is None or is_locked(lock) is None:
        await asyncio.sleep(max(0.0, min(BLIND_SECONDS, deadline - time.monotonic())))
        return
    deadline = min(deadline, time.monotonic() + LONGEST_LOOK_SECONDS)
    while time.monotonic() < deadline:
        await asyncio.sleep(min(LOOK_SECONDS, max(0.0, deadline - time.monotonic())))
        if not is_locked(lock):
            return


def is_locked(lock: Path) -> bool | None:
    """Whether any process has a lock on that file; None where this cannot be seen. Needs no right to open it."""
    try:
        inode = lock.stat().st_ino
        return any(line.split()[5 if "->" not in line else 6].endswith(f":{inode}") for line in _locks())
    except (OSError, IndexError):
        return None


def _locks() -> list[str]:
    return Path("/proc/locks").read_text().splitlines()
