"""What happens again and again for as long as something is wrong is said at once, and then ever more rarely: a host may wait for
its head for weeks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from clusterctl_runtime.backoff import Backoff

FIRST_SECONDS, LONGEST_SECONDS = 5.0, 3600.0  # between two lines of one text
MOST_TEXTS = 16  # that are told apart; the rest shares one pause
_OTHER = ""


@dataclass
class _Said:
    due: float
    pauses: Backoff
    unsaid: int = 0


class Repeats:
    """`clock` in seconds, steady."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: dict[str, _Said] = {}

    def line(self, text: str) -> str | None:
        """What to write now that `text` is the case once more; None for nothing."""
        key = text if text in self._said or len(self._said) < MOST_TEXTS else _OTHER
        now, said = self._clock(), self._said.get(key)
        if said is None:
            pauses = Backoff(FIRST_SECONDS, LONGEST_SECONDS)
            self._said[key] = _Said(now + pauses.next(), pauses)
            return text
        if now < said.due:
            said.unsaid += 1
            return None
        more = f" ({said.unsaid} more times since this was last said)" if said.unsaid else ""
        said.due, said.unsaid = now + said.pauses.next(), 0
        return text + more

    def forget(self) -> None:
        """It was well for a while: what comes now is news again."""
        self._said.clear()
