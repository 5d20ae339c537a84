"""How far an upload or a download is: one line that is rewritten on a terminal, one at the end elsewhere; on stderr. What takes
no longer than a moment is not shown at all."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from clusterctl.cli.output import rewrite_line, say, wants_colour
from clusterctl.cli.render.escape import one_line
from clusterctl.client.meter import Meter

MOMENT = 1.0  # seconds
EVERY = 0.1  # seconds between two looks of the line
_RATE_SECONDS = 5.0  # over which the rate is taken


def make_meter(quiet: bool) -> Meter:
    """One that shows nothing if `quiet`."""
    if quiet:
        return Meter()
    return ShownMeter(wants_colour(sys.stderr))


class ShownMeter(Meter):
    """`live`: stderr is a terminal."""

    def __init__(self, live: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._live, self._clock = live, clock
        self.begin("", 0)

    def begin(self, what: str, total: int, rest: int = 0) -> None:
        self._what, self._total, self._rest = what, total, rest
        self._done = 0
        self._step = ""
        self._began = self._clock()
        self._shown = 0.0
        self._marks = [(self._began, 0)]  # when how much was done

    def step(self, text: str) -> None:
        self._step = text
        self._show()

    def add(self, count: int) -> None:
        self._done += count
        self._show()

    def end(self) -> None:
        seconds = self._clock() - self._began
        if self._shown:
            rewrite_line()
        if seconds >= MOMENT and self._done:
            say(end_text(self._what, self._done, self._total, self._rest, seconds))

    def _show(self) -> None:
        now = self._clock()
        if now - self._marks[-1][0] >= EVERY:
            self._marks.append((now, self._done))
            while now - self._marks[0][0] > _RATE_SECONDS and len(self._marks) > 2:
                self._marks.pop(0)
        if not self._live or now - self._began < MOMENT or now - self._shown < EVERY:
            return
        self._shown = now
        since, before = self._marks[0]
        rate = (self._done - before) / (now - since) if now > since else 0.0
        rewrite_line(one_line(line_text(self._what, self._done, self._total, rate, self._step)))


def line_text(what: str, done: int, total: int, rate: float, step: str = "") -> str:
    """ "sending to the head: 104 of 300 MiB, 52.1 MiB/s, 4 s left"; `rate` in bytes per second."""
    text = f"{what}: {_of(done, total)}"
    if step:
        return f"{text}, {step}"
    if rate > 0:
        text += f", {size_text(rate)}/s, {_seconds((total - done) / rate)} left"
    return text


def end_text(what: str, done: int, total: int, rest: int, seconds: float) -> str:
    """ "sending to the head: 300 MiB in 5.8 s (51.7 MiB/s); the other 1.2 GiB had come before"."""
    amount = size_text(done) if done >= total else f"{_of(done, total)}, then it ended,"
    there = f"; the other {size_text(rest)} had come before" if rest else ""
    return f"{what}: {amount} in {_seconds(seconds)} ({size_text(done / seconds)}/s){there}"


def size_text(count: float) -> str:
    """ "512 B", "1.5 KiB", "104 MiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1023.5 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if count >= 99.95 or unit == "B" else f"{count:.1f} {unit}"


def _of(done: int, total: int) -> str:
    """In the unit of the whole."""
    whole = size_text(total)
    number, unit = whole.split()
    scale = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}[unit]
    return f"{min(done, total) / scale:.{1 if '.' in number else 0}f} of {whole}"


def _seconds(seconds: float) -> str:
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds >= 0.05 else "0 s"
    return f"{seconds:.0f} s" if seconds < 119.5 else f"{seconds / 60:.0f} min"
