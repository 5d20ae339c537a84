"""Asking a provider again while its answer is "later", or got lost: for what may be asked twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from clusterctl.core.errors import NotYet, ProviderError, Throttled, UnknownOutcome

BUSY_SECONDS = 60.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
PASSING = frozenset({Throttled.code, NotYet.code, UnknownOutcome.code})
Answer = TypeVar("Answer")


def patiently(ask: Callable[[], Answer], tell: Callable[[str], None]) -> Answer:
    """The answer, asked for again for a minute. Raises what it was refused with at last."""
    deadline, pause, told = time.monotonic() + BUSY_SECONDS, FIRST_PAUSE, False
    while True:
        try:
            return ask()
        except ProviderError as error:
            if error.code not in PASSING or time.monotonic() > deadline:
                raise
            if not told:
                tell(f"{error}; asking again for {BUSY_SECONDS:g} s")
            told = True
            time.sleep(max(pause, min(getattr(error, "retry_after", 0.0), LONGEST_PAUSE)))
            pause = min(pause * 1.5, LONGEST_PAUSE)
