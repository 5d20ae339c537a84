"""An autoscaler that fails is told for as long as it does: nothing else shows that no node comes or goes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from clusterctl_runtime.head.autoscaler import Autoscaler
from clusterctl_runtime.head.storage.events import EventLog
from clusterctl_runtime.head.storage.store import Store


class Stumbling(Autoscaler):
    """One whose ticks end as the script says: with an error, or well with None. After the last one it stops."""

    def __init__(self, events: EventLog, script: list[Exception | None]) -> None:
        nothing: Any = None
        super().__init__(nothing, nothing, nothing, nothing, events, nothing, nothing, nothing)
        self.script, self.seen = script, list[tuple[str, int]]()

    async def tick(self) -> None:
        self.seen.append((self.failing, self.failed_ticks))
        end = self.script.pop(0)
        self.stopped = not self.script
        if end is not None:
            raise end

    async def _sleep(self) -> None:
        """There is no world to wait for."""


def test_why_ticks_fail_is_said_once_kept_while_it_lasts_and_taken_back(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db")
    events = EventLog(store)
    stumbling = Stumbling(events, [ValueError("no 'lots'"), ValueError("no 'lots'"), None, None])
    asyncio.run(asyncio.wait_for(stumbling.run(), 30))
    said = "the autoscaler fails, so that no node comes or goes: ValueError: no 'lots' (more is in head.log)"
    assert stumbling.seen == [("", 0), (said, 1), (said, 2), ("", 0)]
    told = [(event["code"], event["text"]) for event in events.newest(10)]
    assert told == [("tick_failed", said), ("recovered", "the autoscaler works again")]
    store.close()
