"""How far something is that takes long, for whoever watches. The command line says who shows it; elsewhere nobody does."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar


class Meter:
    """Shows nothing."""

    def begin(self, what: str, total: int, rest: int = 0) -> None:
        """`what`: as in "sending to the head"; `total` in bytes; `rest`: bytes that are there already and stay out of it."""
        return

    def step(self, text: str) -> None:
        """What is done at this moment, where no bytes are counted: "packing model.bin", "" for nothing to say."""
        return

    def add(self, count: int) -> None:
        """So many bytes more are done."""
        return

    def end(self) -> None:
        """It is over, well or not."""
        return


_current: ContextVar[Meter] = ContextVar("meter")


def meter() -> Meter:
    """Whoever watches what this thread does."""
    return _current.get(None) or Meter()


@contextmanager
def metered(what: str, total: int, rest: int = 0) -> Generator[Meter]:
    """`begin` and `end` around the block."""
    watcher = meter()
    watcher.begin(what, total, rest)
    try:
        yield watcher
    finally:
        watcher.end()


def counting(weight: float = 1.0) -> Callable[[int], None]:
    """Tells the meter how far an upload is, by the position in its file: what is sent once more is not counted again. `weight`:
    what a byte of it counts for."""
    done = 0

    def reached(position: int) -> None:
        nonlocal done
        now = int(position * weight)
        if now > done:
            meter().add(now - done)
            done = now

    return reached


@contextmanager
def watched_by(watcher: Meter) -> Generator[None]:
    """What is done in the block is shown by `watcher`."""
    token = _current.set(watcher)
    try:
        yield
    finally:
        _current.reset(token)
