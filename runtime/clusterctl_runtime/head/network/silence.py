"""Ends connections over which nothing comes any more.

A machine that lost its power and a network that drops packets do not say goodbye: TCP alone would keep such a connection
for a quarter of an hour, or for ever where this side has nothing to send.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

SECOND_LOOK = 1.0  # after this process was kept from reading, what came meanwhile is read before anybody is judged


class Watch:
    """With it: a connection that is aborted unless `heard` is called at least every `seconds`."""

    def __init__(self, writer: asyncio.StreamWriter, seconds: float) -> None:
        self._writer, self._seconds = writer, seconds
        self._loop = asyncio.get_running_loop()
        self._doubted = False
        self.heard()
        self._timer = self._loop.call_later(seconds, self._look)

    def heard(self) -> None:
        self._at, self._doubted = self._loop.time(), False

    def _look(self) -> None:
        left = self._at + self._seconds - self._loop.time()
        if left <= 0 and self._doubted:
            self._writer.transport.abort()
            return
        self._doubted = left <= 0
        self._timer = self._loop.call_later(max(left, SECOND_LOOK), self._look)

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
