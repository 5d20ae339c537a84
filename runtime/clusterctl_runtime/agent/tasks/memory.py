"""Whether the kernel killed a task for want of memory, and what the limit was: it says so in counters, and to nobody else.

A program that is killed for memory ends like one that anybody sent a signal 9. The counters belong to the control group
that all tasks of a node share, so that a count counts for a task only when it rose while that task ran, a short time before
its end.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from clusterctl_runtime.agent.facts import own_groups

KILLED = 128 + 9
LOOK_SECONDS = 5.0  # between two looks while tasks run
RECENT_SECONDS = 15.0
VMSTAT = Path("/proc/vmstat")  # of the whole machine, where no group counts
_UNLIMITED = 1 << 60  # version 1 says so with a number near 2^63
_COUNTERS = (
    "memory.events",
    "memory.oom_control",
)  # of version 2, which counts all groups below as well, and of version 1


class MemoryKills:
    """`groups`: the directories of the node's control groups, the innermost first."""

    def __init__(
        self, groups: Sequence[Path] | None = None, vmstat: Path = VMSTAT, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._groups = [path for _, path in own_groups("memory")] if groups is None else list(groups)
        self._vmstat, self._clock = vmstat, clock
        self._looks: deque[tuple[float, int]] = (
            deque()
        )  # (when, count), the newest last; the first is the count of before

    def count(self) -> int:
        """Processes of this node that the kernel has ever killed for memory."""
        for group in self._groups:
            for name in _COUNTERS:
                found = _value(group / name, "oom_kill")
                if found is not None:
                    below = group.glob(f"*/{name}") if name == "memory.oom_control" else ()
                    return found + sum(_value(path, "oom_kill") or 0 for path in below)
        return _value(self._vmstat, "oom_kill") or 0

    def look(self) -> int:
        """Notes the count of this moment, and returns it."""
        now, count = self._clock(), self.count()
        self._looks.append((now, count))
        while len(self._looks) > 1 and self._looks[1][0] < now - RECENT_SECONDS:
            self._looks.popleft()
        return count

    def verdict(self, before: int, exit_code: int, peak: int) -> str:
        """What is to be said of a task that ended with `exit_code` and that nobody here ended; "" where memory has nothing to do
        with it. `before`: the count when it began; `peak`: bytes that its largest process had."""
        if exit_code == 0:
            return ""
        recent = self._looks[0][1] if self._looks else before
        if self.look() <= max(before, recent):
            return ""
        size = f", its largest process had {in_words(peak)}" if peak else ""
        if exit_code == KILLED:
            return f"was killed by the kernel for want of memory (signal 9): {self._limit()}{size}"
        return f"exited with code {exit_code}, after the kernel had killed a process for want of memory: {self._limit()}{size}"

    def _limit(self) -> str:
        limits = [value for group in self._groups if (value := _limit_of(group))]
        if limits:
            return f"its node may use {in_words(min(limits))}"
        return f"its machine has {in_words(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES'))}"


def in_words(size: int) -> str:
    """ "1.5 GiB" """
    for unit in ("KiB", "MiB"):
        size_in = size / (1024 if unit == "KiB" else 1024**2)
        if size_in < 1024:
            return f"{size_in:.4g} {unit}"
    return f"{size / 1024**3:.4g} GiB"


def _limit_of(group: Path) -> int:
    for name in ("memory.max", "memory.limit_in_bytes"):
        try:
            text = (group / name).read_text().strip()
        except OSError:
            continue
        if text.isdigit() and 0 < int(text) < _UNLIMITED:
            return int(text)
    return 0


def _value(path: Path, key: str) -> int | None:
    """The number behind `key` in a file of lines such as "oom_kill 3"; None where there is no such line."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, number = line.partition(" ")
        if name == key and number.isdigit():
            return int(number)
    return None
