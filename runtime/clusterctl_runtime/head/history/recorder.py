"""Keeps what `figures` counts, on disk as well: a head that is restarted goes on with what it had."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.history.figures import Figures
from clusterctl_runtime.head.history.rings import SPANS, Kept, Rings, Row
from clusterctl_runtime.head.storage.store import Store

log = logging.getLogger(__name__)
STEP = SPANS[0].step


class Recorder:
    """`look` counts the figures of now. Each row has its place in the store, so that the file does not grow."""

    def __init__(self, store: Store, look: Callable[[], Awaitable[Figures]]) -> None:
        self._store, self._look, self._rings = store, look, Rings()
        self._rings.restore(_read(store), steady_time())

    async def run(self) -> None:
        """Figures over time are nobody's event: it looks at each step, until it is cancelled."""
        while True:
            try:
                self.take(steady_time(), await self._look())
            except Exception:  # a gap in a plot; the next look tries again
                log.exception("figures over time")
            await asyncio.sleep(STEP - steady_time() % STEP)

    def take(self, at: float, figures: Row) -> None:
        """Those of one moment (unix seconds), in the order of `Figures`."""
        self._store.write_together(
            [
                (
                    "INSERT OR REPLACE INTO history (step, place, slot, figures) VALUES (?, ?, ?, ?)",
                    (one.span.step, one.place, one.slot, json.dumps(one.row)),
                )
                for one in self._rings.add(at, figures)
            ]
        )

    def document(self, name: str) -> dict[str, Any]:
        """All rows of a span, the oldest first: {"span", "step", "length", "fields", "rows": [[figure...]]}, "at" in unix
        seconds. There is no row for a time in which the head was down. Raises KeyError."""
        rows = self._rings.rows(name)
        span = next(span for span in SPANS if span.name == name)
        return {
            "span": name,
            "step": span.step,
            "length": span.length,
            "fields": ["at", *Figures._fields],
            "rows": [[one.slot * span.step, *one.row] for one in rows],
        }


def _read(store: Store) -> list[Kept]:
    spans = {span.step: span for span in SPANS}
    found: list[Kept] = []
    for step, slot, text in store.rows("SELECT step, slot, figures FROM history"):
        row = json.loads(text)
        if step in spans and len(row) == len(Figures._fields):  # else an older version kept other figures
            found.append(Kept(spans[step], slot, tuple(row)))
    return found
