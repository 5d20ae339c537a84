"""How far the jobs of an array are: one line that is rewritten on a terminal, a line now and then elsewhere; on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

from clusterctl.cli.output import rewrite_line, say, wants_colour
from clusterctl.cli.render.text import counts_text
from clusterctl.client.submit.logs import FINAL

EVERY = 10.0  # seconds between two lines where there is no terminal


class ArrayProgress:
    """Shows nothing if `quiet`."""

    def __init__(self, array_id: str, quiet: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._array_id, self._quiet, self._clock = array_id, quiet, clock
        self._live = wants_colour(sys.stderr)
        self._said, self._at = "", 0.0

    def show(self, counts: Mapping[str, int]) -> None:
        """`counts`: how many jobs are in which state."""
        text = f"array {self._array_id}: {progress_text(counts)}"
        if self._quiet or text == self._said:
            return
        if self._live:
            rewrite_line(text)
        elif not self._said or self._clock() - self._at >= EVERY:
            say(text)
        else:
            return
        self._said, self._at = text, self._clock()

    def end(self) -> None:
        """Leaves the line to others."""
        if self._live and self._said:
            rewrite_line()


def progress_text(counts: Mapping[str, int]) -> str:
    """ "40 of 100 ended: 52 queued, 8 running, 38 succeeded, 2 failed"."""
    ended = sum(count for state, count in counts.items() if state in FINAL)
    return f"{ended:,} of {sum(counts.values()):,} ended: {counts_text(dict(counts))}"
