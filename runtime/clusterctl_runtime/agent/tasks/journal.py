"""Which tasks this node took and how they ended, on disk until the head has it: one JSON line per event.

A line survives the death of the agent (it is in the page cache when `write` returns); the death of the machine takes
the tasks with it, so nothing is flushed further.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from clusterctl_runtime.files.private import part_of
from clusterctl_runtime.wire import Message

log = logging.getLogger(__name__)
_COMPACT_BYTES = 4 * 1024 * 1024


class Journal:
    """`open_tasks`: id -> last report, or None if it ran when the last agent died. `boots`: earlier agents."""

    def __init__(self, path: Path, boot_id: str) -> None:
        self._path = path
        self.open_tasks: dict[str, Message | None] = {}
        self.boots: list[str] = []
        self._read()
        self._lines: list[str] = []
        self._fd, self._size = -1, 0
        self._boot_id = boot_id
        self._live: dict[str, Message | None] = dict(self.open_tasks)

    def begin(self) -> None:
        """Starts a fresh file with what is still open; called when the remains of earlier agents are gone."""
        lines = [_line("boot", self._boot_id)]
        for task, report in self._live.items():
            lines.append(_line("run", task))
            if report is not None:
                lines.append(_line("end", task, report))
        data = "".join(lines).encode()
        with part_of(self._path) as part:
            part.write_bytes(data)
            fd = os.open(part, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            part.replace(self._path)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._size = fd, len(data)

    def ran(self, task: str) -> None:
        """Notes, before it starts, that the task is run here."""
        self._live[task] = None
        self._lines.append(_line("run", task))

    def ended(self, report: Message) -> None:
        """Notes how it ended."""
        self._live[report["task"]] = report
        self._lines.append(_line("end", report["task"], report))

    def acknowledged(self, task: str) -> None:
        """Notes that the head has its end, so that the task is forgotten. Idempotent."""
        if task in self._live:
            del self._live[task]
            self._lines.append(_line("ack", task))

    def write(self) -> None:
        """Everything noted since the last call, in one write."""
        if not self._lines:
            return
        data = "".join(self._lines).encode()
        self._lines.clear()
        try:
            self._size += os.write(self._fd, data)
            if self._size > _COMPACT_BYTES:
                self.begin()
        except OSError as error:
            # The work goes on: what is lost is only how tasks ended, should this agent die as well.
            log.error("cannot write %s: %s; free some disk space", self._path, error)

    def _read(self) -> None:
        try:
            text = self._path.read_text(errors="replace")
        except FileNotFoundError:
            return
        for line in text.splitlines():
            try:
                kind, name, *rest = json.loads(line)
            except (ValueError, TypeError):
                continue  # the last line may be torn; what it said is then unknown, which reads as "lost"
            if kind == "boot":
                self.boots.append(name)
            elif kind == "run":
                self.open_tasks[name] = None
            elif kind == "end":
                self.open_tasks[name] = rest[0]
            elif kind == "ack":
                self.open_tasks.pop(name, None)


def _line(*parts: object) -> str:
    return json.dumps(parts, separators=(",", ":")) + "\n"
