"""How late the event loop is: whatever holds it up, every agent and every caller feels."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left

EVERY = 0.02  # seconds between two looks
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Histogram:
    """Of seconds: `counts` by upper bound, the last one for all above; `last` is the newest."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.seconds = self.last = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds
        self.last = seconds


class Pulse:
    """`late` is what others feel, whatever the reason. `busy` is as much of it as this loop has computed: on a machine with
    other work to do it tells what is the head's own fault."""

    def __init__(self) -> None:
        self.late, self.busy = Histogram(), Histogram()

    async def run(self) -> None:
        """Looks every EVERY seconds, until it is cancelled."""
        loop = asyncio.get_running_loop()
        self._look(loop, loop.time(), 0.0)
        try:
            await loop.create_future()  # for ever: a timer looks, so that no task has to be woken for it
        finally:
            self._next.cancel()

    def _look(self, loop: asyncio.AbstractEventLoop, due: float, used: float) -> None:
        late = max(0.0, loop.time() - due)
        self.late.add(late)
        self.busy.add(min(late, time.thread_time() - used))
        due = loop.time() + EVERY
        self._next = loop.call_at(due, self._look, loop, due, time.thread_time())
