"""The head's time: unix seconds that never jump.

All that the head waits for (deadlines, heartbeats, idle times, pauses) is measured with it. A clock that somebody sets,
or a laptop that slept, must not make every deadline run out at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

SLEW = 0.1  # at most so much faster or slower than real time, until the wall clock is caught up with


class SteadyClock:
    """Starts at the wall clock's time, goes on with the monotonic one, and takes up a jump of the wall clock little by
    little. Never goes back. May be read by any thread."""

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._now, self._at = wall(), monotonic()
        self._lock = threading.Lock()

    def __call__(self) -> float:
        with self._lock:
            at = self._monotonic()
            passed, self._at = at - self._at, at
            behind = self._wall() - (self._now + passed)
            self._now += passed + max(-SLEW * passed, min(SLEW * passed, behind))
            return self._now


steady_time = SteadyClock()


def start_ticks() -> int | None:
    """When this process was started, in the kernel's ticks since the machine was: with its id that names it for good. None
    where there is no /proc."""
    try:
        return int(Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[19])
    except OSError:
        return None
