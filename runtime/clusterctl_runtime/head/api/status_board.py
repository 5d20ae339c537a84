"""The status as it changes, for all who watch it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from clusterctl_runtime.head.api.streams import SignOfLife, line_of
from clusterctl_runtime.head.storage.events import EventLog

STATUS_INTERVAL = 0.25  # a watcher is told at most so often
UNANNOUNCED_SECONDS = 1.0  # figures that change without an event (reasons, engine use) are looked at so often


class StatusBoard:
    """The status is made with `make`, compared with the one before, and written as a line, once for all who watch it.
    `unannounced`: seconds after which it is looked at without news."""

    def __init__(
        self, make: Callable[[], dict[str, Any]], events: EventLog, unannounced: float = UNANNOUNCED_SECONDS
    ) -> None:
        self._make, self._events, self._unannounced = make, events, unannounced
        self._made_at = float("-inf")
        self._seen = -1  # the newest event when it was made
        self._line = b""
        self._version = 0  # counts the documents that were another than the one before

    def _look(self) -> bytes:
        """The line of a document that is as new as watchers are told."""
        now, seen = time.monotonic(), self._events.last
        age = now - self._made_at
        if age >= self._unannounced or (age >= STATUS_INTERVAL and seen != self._seen):
            self._made_at, self._seen = now, seen
            line = line_of(self._make())
            if line != self._line:
                self._line = line
                self._version += 1
        return self._line

    async def watch(self) -> AsyncIterator[Any]:
        """The line of each document that is another than the one before, and None as a sign of life."""
        told, life = 0, SignOfLife()
        while True:
            line = self._look()
            seen = self._seen  # by this document: others may have a newer one made meanwhile
            if self._version != told:
                told = self._version
                life.said()
                yield line
            elif life.is_due():
                yield None
            await asyncio.sleep(STATUS_INTERVAL)
            await self._events.wait(seen, self._unannounced)
