"""Waiting until something is so, and pauses between tries that grow. Standard library only."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")
_GROWN = 64  # tries after which no pause grows any more: its power would leave what a float can be


def pause_after(tries: int, first: float, longest: float, factor: float = 2.0) -> float:
    """The pause in seconds after so many tries (from 1) that failed in a row."""
    return min(first * factor ** min(tries - 1, _GROWN), longest)


class Backoff:
    """The pauses of a loop that tries again. `seconds`: for how long `wait` goes on. `spread`: the share by which a pause is cut
    short at random, for where many would come back at once."""

    def __init__(
        self,
        first: float,
        longest: float,
        *,
        factor: float = 2.0,
        spread: float = 0.0,
        seconds: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._first, self._longest, self._factor, self._spread = first, longest, factor, spread
        self._seconds, self._clock, self._sleep, self._chance = seconds, clock, sleep, chance
        self.reset()

    def reset(self) -> None:
        """It went well, or somebody wants it now: the pauses are short again, and the time begins anew."""
        self._tries = 0
        self._deadline = self._clock() + self._seconds

    def next(self) -> float:
        """The next pause in seconds, for a caller that has its own way to wait."""
        self._tries += 1
        pause = pause_after(self._tries, self._first, self._longest, self._factor)
        return pause * (1.0 - self._spread * self._chance())

    def wait(self, at_least: float = 0.0) -> bool:
        """Pauses and returns True; False at once when the time is over. The last pause ends with the time, so that there is a
        try at its very end, unless somebody asked for `at_least` so many seconds."""
        left = self._deadline - self._clock()
        if left <= 0:
            return False
        self._sleep(max(min(self.next(), left), at_least))
        return True


def wait_until(look: Callable[[], Found], backoff: Backoff) -> Found:
    """What `look` finds: the first that is true, or the last when the time of `backoff` is over."""
    while not (found := look()) and backoff.wait():
        pass
    return found
