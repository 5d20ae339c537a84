"""A line now and then that says for what something still waits, so that nobody takes a slow end for a hang."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from clusterctl_runtime.backoff import Backoff

FIRST_SECONDS, LONGEST_SECONDS = 5.0, 60.0  # until the first line, and at most between two
MOST_NAMES = 4


class StillWaiting:
    """`look` is called as often as one likes: it speaks after `first` seconds, then after twice as long each time, up to a
    minute."""

    def __init__(
        self, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic, *, first: float = FIRST_SECONDS
    ) -> None:
        self._tell, self._clock = tell, clock
        self._began = clock()
        self._pauses = Backoff(first, LONGEST_SECONDS)
        self._due = self._began + self._pauses.next()

    @property
    def is_due(self) -> bool:
        """Whether the next look speaks, for those whom it costs something to say what they wait for."""
        return self._clock() >= self._due

    def look(self, what: str) -> None:
        """`what` follows "waiting for"; nothing is waited for where it is empty."""
        now = self._clock()
        if not what or now < self._due:
            return
        self._tell(f"waiting for {what} ({now - self._began:.0f} s so far)")
        self._due = now + self._pauses.next()


def listed(names: Sequence[str], total: int | None = None) -> str:
    """ "a, b and c", or the first of them and how many there are besides. `total`: how many there are, where `names` are but the
    first."""
    total = len(names) if total is None else total
    if total > MOST_NAMES:
        shown = names[: MOST_NAMES - 1]
        return f"{', '.join(shown)} and {total - len(shown):,} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
