"""Reading what tasks print, as fast as head and disk can take it and no faster."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from clusterctl_runtime.agent.outbox import Outbox
from clusterctl_runtime.agent.tasks.task import Task

_READ_BYTES = 64 * 1024
_READS_IN_TURN = 4  # so that no printer starves the rest
_READS_AT_END = 16  # the largest pipe a program can make for itself


class Pipes:
    """`ended(task)` is called when everyone has closed the other end of a task's pipe."""

    def __init__(self, loop: asyncio.AbstractEventLoop, outbox: Outbox, ended: Callable[[Task], None]) -> None:
        self._loop, self._outbox, self._ended = loop, outbox, ended
        self._paused: set[Task] = set()

    def open(self, task: Task) -> None:
        """What the task prints is read from now on, or again."""
        self._loop.add_reader(task.pipe, self._readable, task)
        task.reading = True

    def read_again(self) -> None:
        """Something was acknowledged, or the head went: whoever may print again does."""
        for task in [t for t in self._paused if t.output.wants()]:
            self._paused.discard(task)
            self.open(task)

    def drain(self, task: Task) -> bool:
        """Takes what a dead program left in its pipe, whatever the window says; True at the end of the pipe."""
        at_end = False
        for _ in range(_READS_AT_END):
            data = _read(task.pipe)
            if not data:
                at_end = data is not None
                break
            task.output.add(data)
        self._outbox.log(task)
        return at_end

    def close(self, task: Task) -> None:
        """What is in the pipe and was not read is lost. Idempotent."""
        if task.pipe >= 0:
            if task.reading:
                self._loop.remove_reader(task.pipe)
            self._paused.discard(task)
            os.close(task.pipe)
            task.pipe, task.reading = -1, False

    def _readable(self, task: Task) -> None:
        output = task.output
        for _ in range(_READS_IN_TURN):
            data = _read(task.pipe) if output.wants() else None
            if data is None:
                break
            if not data:
                self._outbox.log(task)
                self.close(task)
                self._ended(task)
                return
            output.add(data)
            if len(data) < _READ_BYTES:
                break
        self._outbox.log(task)
        if not output.wants():
            self._loop.remove_reader(task.pipe)
            task.reading = False
            self._paused.add(task)


def _read(pipe: int) -> bytes | None:
    """Empty at the end of the pipe, None when nothing is there now."""
    try:
        return os.read(pipe, _READ_BYTES)
    except BlockingIOError:
        return None
