"""Python's search for cycles of garbage, made when it is cheap: left alone it looks through all that the head knows now and
then, which takes half a second with a long queue, and in which nobody is answered.

What a search has found to be alive is mostly the queue, which stays: where a search took long, all that is alive is left out of
the ones that follow. Jobs that end are freed all the same, they are in no cycle; what little is left behind in cycles is found
by a search through everything, a few times a day.
"""

from __future__ import annotations

import asyncio
import gc
import time

EVERY = 0.05  # seconds between looks at whether a search is due
DUE = 1  # searches among some 7,000 new objects, after which there is one among those that outlived them
SELDOM = 60.0  # or after so many seconds
LONG = 0.005  # seconds of a search, after which what it has found alive is left out of the next
WHOLE = 6 * 3600.0  # seconds between searches through everything
_NEVER = 1_000_000_000


class Garbage:
    """From `run` on no search is made but for those among new objects and the ones made here."""

    def __init__(self) -> None:
        self._searched = self._whole = time.monotonic()

    async def run(self) -> None:
        """Until it is cancelled. Changes how this whole process collects garbage, and leaves it changed."""
        first, second, _ = gc.get_threshold()
        gc.set_threshold(first or 700, second, _NEVER)
        gc.enable()
        gc.freeze()  # what was loaded stays, most of it
        while True:
            await asyncio.sleep(EVERY)
            self.look(time.monotonic())

    def look(self, now: float) -> None:
        """One search, if one is due at `now` (seconds, monotonic)."""
        if now - self._whole >= WHOLE:
            gc.unfreeze()
            self._whole = now
        elif gc.get_count()[2] < DUE and now - self._searched < SELDOM:
            return
        started = time.perf_counter()
        gc.collect()
        self._searched = now
        if time.perf_counter() - started >= LONG:
            gc.freeze()
