"""Asking a provider again while its answer is "later", or got lost: for what may be asked twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from clusterctl_runtime.backoff import Backoff

from clusterctl.core.errors import NotYet, ProviderError, Throttled, UnknownOutcome

BUSY_SECONDS = 60.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
PASSING = frozenset({Throttled.code, NotYet.code, UnknownOutcome.code})
Answer = TypeVar("Answer")


def patiently(ask: Callable[[], Answer], tell: Callable[[str], None]) -> Answer:
    """The answer, asked for again for a minute. Raises what it was refused with at last."""
    pauses, told = Backoff(FIRST_PAUSE, LONGEST_PAUSE, factor=1.5, seconds=BUSY_SECONDS), False
    while True:
        try:
            return ask()
        except ProviderError as error:
            if error.code not in PASSING:
                raise
            if not told:
                tell(f"{error}; asking again for {BUSY_SECONDS:g} s")
            told = True
            if not pauses.wait(min(getattr(error, "retry_after", 0.0), LONGEST_PAUSE)):
                raise
