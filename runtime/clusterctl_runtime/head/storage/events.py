"""The cluster's journal for people: what happened, to what, and why. Kept in the store, followed by streams."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import deque
from typing import Any

from clusterctl.core.model import Node
from clusterctl_runtime.head.storage.store import Store, storable

Event = dict[str, Any]
RECENT = 2000  # kept in memory; older ones are read from the store


class EventLog:
    """Appends are durable with the store's next commit. `kind`: node, job, cluster, engine, provider, security."""

    def __init__(self, store: Store) -> None:
        self._store = store
        rows = store.rows(
            "SELECT seq, at, kind, subject, code, text, details FROM events ORDER BY seq DESC LIMIT ?", (RECENT,)
        )
        self._recent: deque[Event] = deque((_from_row(r) for r in reversed(rows)), maxlen=RECENT)
        self._next = self._recent[-1]["seq"] + 1 if self._recent else 1
        self.first = store.rows("SELECT min(seq) FROM events")[0][0] or self._next  # the oldest that is kept
        self._changed = asyncio.Event()

    def tell_state(self, node: Node, code: str, reason: str) -> None:
        """That a node has come to the state that it is in."""
        self.add("node", node.id, code, f"{node.id} is {node.state.value}: {reason}", state=node.state.value)

    def add(self, kind: str, subject: str, code: str, text: str, **details: Any) -> Event:
        """Notes an event of this moment and wakes all who `wait`; it has the next number. `details` must be fit for JSON."""
        subject, text = storable(subject), storable(text)
        event: Event = {
            "seq": self._next,
            "at": time.time(),
            "kind": kind,
            "subject": subject,
            "code": code,
            "text": text,
            "details": details,
        }
        self._next += 1
        self._recent.append(event)
        self._store.write(
            "INSERT OR REPLACE INTO events VALUES (?,?,?,?,?,?,?)",
            (event["seq"], event["at"], kind, subject, code, text, json.dumps(details)),
        )
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        return event

    def forget_before(self, seq: int) -> None:
        """Drops the events up to, not including, `seq`; those in memory stay until newer ones push them out."""
        self.first = max(self.first, seq)
        self._store.write("DELETE FROM events WHERE seq < ?", (seq,))

    async def wait(self, since: int, timeout: float) -> None:
        """Returns when there is an event after `since`, or after `timeout` seconds."""
        if self._next - 1 > since:
            return
        try:
            await asyncio.wait_for(self._changed.wait(), timeout)
        except asyncio.TimeoutError:
            return

    @property
    def last(self) -> int:
        """The number of the newest event; 0 before the first."""
        return self._next - 1

    async def since(self, seq: int, limit: int = 1000, subject: str = "") -> list[Event]:
        """Events after `seq`, oldest first, at most `limit` (with seq < 0: the newest `limit`). Those that are not in memory any
        more are read in a thread: that may have to wait for the store's commit."""
        if seq < 0:
            return self.newest(limit, subject)
        if not self._recent or seq + 1 >= self._recent[0]["seq"]:
            return self._after(seq, limit, subject)
        await self._store.flush()  # what was just pushed out of memory may not be on disk yet
        query, values = "SELECT seq, at, kind, subject, code, text, details FROM events WHERE seq > ?", [seq]
        if subject:
            query, values = f"{query} AND subject = ?", [*values, subject]
        rows = await asyncio.to_thread(self._store.rows, f"{query} ORDER BY seq LIMIT ?", (*values, limit))
        return [_from_row(row) for row in rows]

    def newest(self, limit: int, subject: str = "") -> list[Event]:
        """The newest of those in memory, oldest first."""
        return [event for event in self._recent if not subject or event["subject"] == subject][-limit:]

    def _after(self, seq: int, limit: int, subject: str) -> list[Event]:
        """Of those in memory."""
        start = max(0, seq + 1 - self._recent[0]["seq"]) if self._recent else 0  # the numbers are dense
        newer = itertools.islice(self._recent, start, None)
        found = (event for event in newer if not subject or event["subject"] == subject)
        return list(itertools.islice(found, limit))


def _from_row(row: tuple[Any, ...]) -> Event:
    seq, at, kind, subject, code, text, details = row
    return {
        "seq": seq,
        "at": at,
        "kind": kind,
        "subject": subject,
        "code": code,
        "text": text,
        "details": json.loads(details),
    }
