"""The log store: the merged output of every rank of every attempt, kept after the nodes are gone.

A task's log is one file, `logs/JOB/N.RANK.log`. Offsets on the wire count the program's output; where the agent dropped
the middle of a flood, the file holds a marker line instead and `N.RANK.gaps` says how the two counts differ.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from clusterctl.core.errors import NotFound
from clusterctl_runtime.head.jobs.job import split_task
from clusterctl_runtime.head.storage.sizes import size_of_files

log = logging.getLogger(__name__)
_BLOCK = 256 * 1024
_SAFE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,127}$")  # ids become file names: nothing else gets near a path


@dataclass
class _Stream:
    path: Path
    size: int  # bytes in the file
    shift: int  # output offset = file position + shift
    expected: int | None = None  # final output size, once the agent said so
    broken: bool = False  # the disk refused: said once, the job goes on

    @property
    def received(self) -> int:
        return self.size + self.shift


@dataclass(eq=False)
class LogWatch:
    """What one reader of a job's logs has not looked at yet: `event` is set while any log grew since `take`."""

    event: asyncio.Event = field(default_factory=asyncio.Event)
    _grown: set[str] = field(default_factory=set)

    def note(self, task: str) -> None:
        """A log of the job has grown."""
        self._grown.add(task)
        self.event.set()

    def take(self) -> set[str]:
        """The tasks whose logs grew, or of which it is known now that they are whole."""
        grown, self._grown = self._grown, set()
        self.event.clear()
        return grown


class LogStore:
    """Appends what agents send, in order, each byte once; readers follow by file position."""

    def __init__(self, root: Path, complain: Callable[[str, str], object] = lambda task, text: None) -> None:
        """`complain(task, sentence)` is called once for each log that the disk refuses."""
        self._root = root
        self._complain = complain
        self._root.mkdir(mode=0o700, exist_ok=True)
        self.size_of_all = 0  # bytes, as of the last `measure`, and what came since
        self._streams: dict[str, _Stream] = {}
        self._watches: dict[str, set[LogWatch]] = {}  # by job; there while somebody reads

    def directory(self, job_id: str) -> Path:
        """Where the logs of a job are."""
        if not _SAFE.match(job_id):
            raise NotFound(f"no logs of job {job_id!r}")
        return self._root / job_id

    def path(self, task: str) -> Path:
        """Where a task's log lies, or would."""
        job, attempt, rank = split_task(task)
        return self.directory(job) / f"{int(attempt.rsplit('/', 1)[1])}.{int(rank)}.log"

    def _stream(self, task: str) -> _Stream:
        stream = self._streams.get(task)
        if stream is None:
            path = self.path(task)
            try:
                stream = _Stream(path, path.stat().st_size, _shift(path.with_suffix(".gaps")))
            except FileNotFoundError:
                stream = _Stream(path, 0, 0)  # one look at the disk: each of thousands of tasks that rejoin costs it
            self._streams[task] = stream
        return stream

    def append(self, task: str, offset: int, data: bytes, dropped: int = 0) -> int:
        """Takes `data`, which starts at `offset` of the output; returns the offset up to which all is on file."""
        stream = self._stream(task)
        if offset > stream.received:
            self._mark_gap(task, stream, offset - stream.received)
        skip = stream.received - offset
        if skip < len(data):
            self._write(task, stream, data[skip:])
        have = max(stream.received, offset + len(data))
        self._settle(task, stream)
        return have

    def _write(self, task: str, stream: _Stream, data: bytes) -> None:
        if stream.broken:
            stream.shift += len(data)
            return
        try:
            stream.path.parent.mkdir(mode=0o700, exist_ok=True)
            with stream.path.open("ab") as file:
                file.write(data)
            stream.size += len(data)
            self.size_of_all += len(data)
        except OSError as error:
            # Losing a log must not lose the job: acknowledge, say so, go on.
            log.error("log %s: %s; the rest of this log is dropped", stream.path, error)
            self._complain(
                task,
                f"its output could not be kept in {stream.path} ({error.strerror}): the rest is dropped, the job goes on",
            )
            stream.broken = True
            stream.size = stream.path.stat().st_size if stream.path.exists() else 0
            stream.shift += len(data)

    def _mark_gap(self, task: str, stream: _Stream, missing: int) -> None:
        marker = f"\n[clusterctl: {missing} bytes of output dropped here: over the log's cap]\n".encode()
        self._write(task, stream, marker)
        shift = missing - len(marker)
        stream.shift += shift
        try:
            with stream.path.with_suffix(".gaps").open("a") as file:
                file.write(json.dumps({"shift": shift}) + "\n")
        except OSError as error:
            log.error("log %s: %s", stream.path, error)

    def expect(self, task: str, size: int) -> None:
        """The program ended after writing `size` bytes: the log is whole once they are here."""
        if not size and task not in self._streams:
            self._notify(task)  # none came and none will
            return
        stream = self._stream(task)
        stream.expected = size
        self._settle(task, stream)

    def _settle(self, task: str, stream: _Stream) -> None:
        if stream.expected is not None and stream.received >= stream.expected:
            self._streams.pop(task, None)  # whole: only its file matters from now on
        self._notify(task)

    def complete(self, task: str) -> bool:
        """Whether all that the task printed is here, as far as its agent has said how much that is."""
        stream = self._streams.get(task)
        return stream is None or stream.expected is None or stream.received >= stream.expected

    def measure(self) -> None:
        """Counts `size_of_all` anew. Looks at every file: not for the event loop."""
        self.size_of_all = size_of_files(self._root)

    def offset(self, task: str) -> int:
        """How much of the output is here: where the agent goes on after a reconnect."""
        return self._stream(task).received

    def close(self, task: str) -> None:
        """Forget the bookkeeping of an ended task; its file stays."""
        self._streams.pop(task, None)
        self._notify(task)

    def read(self, task: str, position: int, limit: int = _BLOCK) -> bytes:
        """At most `limit` bytes from `position` on; b"" where there is nothing."""
        path = self.path(task)
        try:
            with path.open("rb") as file:
                file.seek(position)
                return file.read(limit)
        except FileNotFoundError:
            return b""

    def size(self, task: str) -> int:
        """Bytes of the stored log; 0 where there is none."""
        try:
            return self.path(task).stat().st_size
        except FileNotFoundError:
            return 0

    def tail_position(self, task: str, lines: int, most: int) -> tuple[int, bool]:
        """File position of the last `lines` lines, at most `most` bytes before the end; and whether it lies inside a line,
        since that one is longer. Reads blocks from the end: not for the event loop."""
        try:
            with self.path(task).open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                return _tail_position(file, end, max(0, end - most), lines)
        except FileNotFoundError:
            return 0, False

    @contextmanager
    def watching(self, job_id: str) -> Iterator[LogWatch]:
        """Tells what grows of the logs of a job while the block lasts."""
        watch = LogWatch()
        self._watches.setdefault(job_id, set()).add(watch)
        try:
            yield watch
        finally:
            watches = self._watches[job_id]
            watches.discard(watch)
            if not watches:
                del self._watches[job_id]

    def _notify(self, task: str) -> None:
        for watch in self._watches.get(split_task(task)[0], ()):
            watch.note(task)


def _tail_position(file: BinaryIO, end: int, floor: int, lines: int) -> tuple[int, bool]:
    if lines == 0 or end == 0:
        return end, False
    position, left = end - 1, lines  # the last byte is left out: a newline there ends the last line and begins none
    while position > floor:
        start = max(floor, position - _BLOCK)
        file.seek(start)
        block = file.read(position - start)
        count = block.count(b"\n")
        if count < left:
            left -= count
            position = start
            continue
        at = len(block)
        for _ in range(left):
            at = block.rindex(b"\n", 0, at)
        return start + at + 1, False
    if floor == 0:
        return 0, False
    file.seek(floor - 1)
    return floor, file.read(1) != b"\n"


def _shift(gaps: Path) -> int:
    try:
        return sum(json.loads(line)["shift"] for line in gaps.read_text().splitlines())
    except FileNotFoundError:
        return 0
