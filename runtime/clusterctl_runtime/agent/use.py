"""What is in use on this machine, or in this container: CPUs, memory, GPUs. Cheap, for it goes with a heartbeat now and then."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

from clusterctl_runtime.agent.facts import own_groups, read_gpu_use

EVERY = 10.0  # seconds between two looks
_PROC = Path("/proc")


class Use:
    """`has_gpus` says whether there are any to ask about. It looks when it is asked, not by itself."""

    def __init__(self, has_gpus: Callable[[], bool]) -> None:
        self._has_gpus = has_gpus
        topmost = [group for kind, group in own_groups("memory") if kind == "cgroup2"][-1:]
        self._group = topmost[0] if topmost else None
        self._looked = time.monotonic() - EVERY
        self._seconds = _cpu_seconds(self._group)
        self._begun = time.monotonic()
        self._of_gpus: dict[str, float] = {}
        self._asking: asyncio.Future[None] | None = None

    def news(self) -> dict[str, float]:
        """{"cpu": CPUs, "memory": bytes, "gpu": GPUs, "gpu_memory": bytes} that are in use, what is not known left out; {} where
        it is not time to look."""
        now = time.monotonic()
        if now - self._looked < EVERY:
            return {}
        self._looked = now
        if self._has_gpus() and (self._asking is None or self._asking.done()):
            self._asking = asyncio.ensure_future(self._ask())
        found = dict(self._of_gpus)
        seconds, memory = _cpu_seconds(self._group), _memory(self._group)
        if seconds is not None and self._seconds is not None:
            found["cpu"] = round(max(0.0, seconds - self._seconds) / max(0.01, now - self._begun), 3)
        if memory is not None:
            found["memory"] = memory
        self._seconds, self._begun = seconds, now
        return found

    async def _ask(self) -> None:
        """Told with the next look: a driver takes its time, or never answers."""
        self._of_gpus = await asyncio.get_running_loop().run_in_executor(None, read_gpu_use)


def _cpu_seconds(group: Path | None) -> float | None:
    """Used so far: by the container where this is one, else by the machine."""
    for line in _text(group / "cpu.stat").splitlines() if group else ():
        if line.startswith("usage_usec "):
            return int(line.split()[1]) / 1e6
    fields = _text(_PROC / "stat").partition("\n")[0].split()
    if fields[:1] != ["cpu"]:
        return None
    user, nice, system, _, _, irq, softirq, steal = map(int, fields[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _memory(group: Path | None) -> float | None:
    """In bytes, without what is only kept because nobody else wants the space."""
    current = _text(group / "memory.current") if group else ""
    if group and current.strip().isdigit():
        cached = _figures(_text(group / "memory.stat")).get("inactive_file", 0)
        return float(max(0, int(current) - cached))
    figures = _figures(_text(_PROC / "meminfo").replace(":", ""))
    if "MemTotal" not in figures or "MemAvailable" not in figures:
        return None
    return float((figures["MemTotal"] - figures["MemAvailable"]) * 1024)


def _figures(text: str) -> dict[str, int]:
    pairs = (line.split()[:2] for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
