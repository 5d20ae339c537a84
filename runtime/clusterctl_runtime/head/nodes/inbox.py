"""What nodes tell of their tasks, taken in some at a time: when ten thousand end at the same moment, a beat is answered all the
same, jobs go on starting, and each node has its turn.

Reports of one node are taken in the order in which they came. Nothing is acknowledged before it was taken: what a head that dies
has not looked at yet is told again to the next one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from clusterctl_runtime.wire import TaskReport

AT_ONCE = 50  # reports in one turn of the loop, at some hundred microseconds each


class Inbox:
    """`take(node_id, reports)` takes some of one node's; it raises nothing."""

    def __init__(self, take: Callable[[str, Sequence[TaskReport]], None]) -> None:
        self._take = take
        self._waiting: dict[str, deque[TaskReport]] = {}  # by node, whose turn is next first
        self._at_it = False

    def put(self, node_id: str, reports: Sequence[TaskReport]) -> None:
        """They are taken from the next turn on."""
        self._waiting.setdefault(node_id, deque()).extend(reports)
        if not self._at_it:
            self._at_it = True
            asyncio.get_running_loop().call_soon(self._turn)

    def empty(self, node_id: str) -> None:
        """Takes all that waits of one node now: before what comes after it is believed."""
        waiting = self._waiting.pop(node_id, None)
        if waiting:
            self._take(node_id, list(waiting))

    def _turn(self) -> None:
        left = AT_ONCE
        while self._waiting and left:
            node_id = next(iter(self._waiting))
            waiting = self._waiting.pop(node_id)
            part = [waiting.popleft() for _ in range(min(left, len(waiting)))]
            left -= len(part)
            if waiting:
                self._waiting[node_id] = waiting  # behind the others
            self._take(node_id, part)
        self._at_it = bool(self._waiting)
        if self._at_it:
            asyncio.get_running_loop().call_soon(self._turn)
