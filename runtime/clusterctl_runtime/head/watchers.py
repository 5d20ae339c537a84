"""Who waits for news of something by its name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from weakref import WeakValueDictionary


class Watchers:
    """An event for each name that somebody waits for. Nothing is kept of one for which nobody does."""

    def __init__(self) -> None:
        self._events: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()

    def __iter__(self) -> Iterator[str]:
        """The names that somebody waits for."""
        return iter(list(self._events))

    def of(self, name: str) -> asyncio.Event:
        """Set at the next news of it. Whoever waits holds the event."""
        event = self._events.get(name)
        if event is None:
            event = self._events[name] = asyncio.Event()
        return event

    def tell(self, name: str) -> None:
        """There are news of it."""
        event = self._events.pop(name, None)
        if event:
            event.set()
