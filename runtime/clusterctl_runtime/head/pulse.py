"""How late the event loop is: whatever holds it up, every agent and every caller feels."""

from __future__ import annotations

import asyncio
from bisect import bisect_left

EVERY = 0.02  # seconds between two looks
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Pulse:
    """A histogram of delays: `counts` by upper bound, the last one for all above."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + EVERY
            await asyncio.sleep(EVERY)
            late = max(0.0, loop.time() - due)
            self.counts[bisect_left(BOUNDS, late)] += 1
            self.seconds += late
