"""What this machine is: CPUs, memory, disk, GPUs, Python, clock. Read once, told in `hello`."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_SMI = ["nvidia-smi", "--query-gpu=name,memory.total,uuid", "--format=csv,noheader,nounits"]


def read_facts(directory: Path) -> dict[str, Any]:
    """Sizes in bytes, clock in unix seconds; a fact that cannot be read is left out or zero."""
    return {
        "hostname": socket.gethostname(),
        "cpus": _cpus(),
        "memory": _memory(),
        "disk_free": shutil.disk_usage(directory).free,
        "gpus": read_gpus(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "system": sys.platform,
        "machine": platform.machine(),
        "kernel": os.uname().release,
        "clock": time.time(),
    }


def read_gpus() -> list[dict[str, Any]]:
    """The GPUs the driver reports, in its order: name, memory in bytes, uuid. Empty without nvidia-smi."""
    if not shutil.which(_SMI[0]):
        return []
    try:
        done = subprocess.run(_SMI, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []  # a driver that does not answer is a node without GPUs; the head compares with what the pool promised
    found = []
    for line in done.stdout.splitlines():
        name, memory, uuid = ([part.strip() for part in line.split(",")] + ["", ""])[:3]
        found.append({"name": name, "memory": int(memory) * 2**20 if memory.isdigit() else 0, "uuid": uuid})
    return found


def _cpus() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def _memory() -> int:
    """The machine's memory, or the container's limit where that is less."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        total = 0
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total
