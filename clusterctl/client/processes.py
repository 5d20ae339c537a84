"""What a process id stands for: ids are used again, so one is believed only by its command line."""

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
