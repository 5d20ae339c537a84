"""What the head is to be told next: reports that changed, and log bytes, tasks in turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from clusterctl_runtime.agent.tasks.journal import Journal
from clusterctl_runtime.agent.tasks.task import Task
from clusterctl_runtime.agent.tasks.watchdog import Watchdog
from clusterctl_runtime.wire import Message


class Outbox:
    """`wake` tells the link that there is something. A report that changed twice before it was sent is sent once."""

    def __init__(self, journal: Journal, watchdog: Watchdog, wake: Callable[[], None]) -> None:
        self._journal, self._watchdog, self._wake = journal, watchdog, wake
        self._changed: dict[str, Task] = {}
        self._answers: dict[str, Message] = {}  # about tasks that are not here any more
        self._to_send: deque[Task] = deque()  # each has log bytes to send
        self._noting = False

    def report(self, task: Task) -> None:
        """Its report has changed: it is sent as it is then, after journal and watchdog know of it."""
        self._changed[task.id] = task
        self.note_soon()

    def answer(self, report: Message) -> None:
        """A report of a task that is not here, to be sent once."""
        self._answers[report["task"]] = report
        self._wake()

    def log(self, task: Task) -> None:
        """The task may have log bytes to send."""
        if not task.queued_to_send and task.output.unsent:
            task.queued_to_send = True
            self._to_send.append(task)
            self._wake()

    def note_soon(self) -> None:
        """Once per turn of the loop, for all that happened in it: first to disk and watchdog, then to the head."""
        if not self._noting:
            self._noting = True
            asyncio.get_running_loop().call_soon(self._note)

    def _note(self) -> None:
        self._noting = False
        self._journal.write()
        self._watchdog.write()
        self._wake()

    def clear_reports(self) -> None:
        """All of them are being told otherwise."""
        self._changed.clear()

    def take_reports(self) -> list[Message]:
        """What changed since the last call."""
        items = [task.message() for task in self._changed.values()] + list(self._answers.values())
        self._changed.clear()
        self._answers.clear()
        return items

    def take_log(self) -> tuple[Message, bytes] | None:
        """The next log frame; None when all that may be sent is sent."""
        while self._to_send:
            task = self._to_send.popleft()
            task.queued_to_send = False
            if task.output.unsent:
                offset, data, dropped = task.output.take()
                self.log(task)
                message: Message = {"t": "log", "task": task.id, "offset": offset}
                if dropped:
                    message["dropped"] = dropped
                return message, data
        return None
