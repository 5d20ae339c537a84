"""What nodes are told to be safe with the head: log bytes at once, ends of tasks when they are on disk.

What gathers meanwhile shares a commit and a message, whatever node it came from.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

from clusterctl_runtime.head.storage.store import Store, StoreUnavailable
from clusterctl_runtime.head.turns import in_turns

log = logging.getLogger(__name__)
FULL_DISK_PAUSE = 0.5  # seconds before a disk that took nothing is tried again
AT_ONCE = 50  # nodes that are told in one turn


class Acks:
    def __init__(self, store: Store, send: Callable[[str, dict[str, Any]], object]) -> None:
        self._store, self._send = store, send
        self._logs: dict[str, dict[str, int]] = {}  # node id -> task -> bytes that are here
        self._ends: dict[str, list[str]] = {}  # node id -> tasks
        self._task: asyncio.Task[None] | None = None

    def log(self, node_id: str, task: str, have: int) -> None:
        """Bytes of a log are where they will stay, and a program whose output nobody takes stands still: no disk is waited for.
        Frames that are already here join this message."""
        if not self._logs:
            asyncio.get_running_loop().call_soon(self._tell_logs)
        self._logs.setdefault(node_id, {})[task] = have

    def _tell_logs(self) -> None:
        told, self._logs = self._logs, {}
        for node_id, logs in told.items():
            self._send(node_id, {"t": "ack", "tasks": [], "logs": logs})

    def ends(self, node_id: str, tasks: Iterable[str]) -> None:
        """However long the disk refuses."""
        self._ends.setdefault(node_id, []).extend(tasks)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._tell_ends())

    async def _tell_ends(self) -> None:
        try:
            await asyncio.sleep(0)  # what is told in this turn joins
            while self._ends:
                ends, self._ends = self._ends, {}
                await self._written()
                async for part in in_turns(ends.items(), AT_ONCE):
                    for node_id, tasks in part:
                        self._send(node_id, {"t": "ack", "tasks": tasks, "logs": {}})
        finally:
            self._task = None

    async def _written(self) -> None:
        while True:
            try:
                await self._store.flush()
                return
            except StoreUnavailable as error:
                log.error("ends of tasks are acknowledged later: %s", error)
            await asyncio.sleep(FULL_DISK_PAUSE)
