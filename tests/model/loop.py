"""An event loop whose time passes only while nobody has anything to do: minutes of waiting take no time, and the same seed gives
the same order of everything."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any


class _NeverWaits(selectors.SelectSelector):
    """Time goes on by what the loop would have slept."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("everybody waits for everybody: nothing is left to happen")
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._sleeper = _NeverWaits()
        super().__init__(self._sleeper)

    def time(self) -> float:
        return self._sleeper.now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """At once: what threads do meanwhile would not be the same each time."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future
