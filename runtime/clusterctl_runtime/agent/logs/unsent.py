"""What a task printed and the head has not on disk yet: windows, caps, and what happens while the head is away.

Offsets count the program's output. The first half of the cap is streamed as it comes; of the rest the last half is
kept in a ring and follows when the task has ended, so that the middle is what a flood loses. Between program and head
there is at most a window in memory; while the head is away a spool on disk takes more; then the pipe is not read and
the program waits.
"""

from __future__ import annotations

import logging
from pathlib import Path

from clusterctl_runtime.agent.logs.spool import Queue, Ring

log = logging.getLogger(__name__)
CHUNK = 256 * 1024


class LogBudget:
    """What all tasks of the node share, in bytes. `connected`: the head takes log frames now."""

    def __init__(
        self,
        directory: Path,
        window: int = 1024 * 1024,
        memory: int = 32 * 1024 * 1024,
        spool: int = 64 * 1024 * 1024,
        disk: int = 1024 * 1024 * 1024,
    ) -> None:
        self.directory = directory
        self.memory_limit, self.spool_limit, self.disk_limit = memory, spool, disk
        self.memory = self.disk = 0
        self.connected = False
        self._window = window
        self._files = 0

    @property
    def window(self) -> int:
        """Per task; small when many tasks print at once, so that their sum stays bounded."""
        return self._window if self.memory < self.memory_limit else min(self._window, 64 * 1024)

    def file(self) -> Path:
        """Another path with each call, where no file is yet."""
        self._files += 1
        return self.directory / str(self._files)


class Output:
    """The output of one task. `total`: bytes the program wrote; `base`: everything below is on the head's disk."""

    __slots__ = (
        "_budget",
        "_first",
        "_memory",
        "_read",
        "_ring",
        "_ring_size",
        "_sent",
        "_spool",
        "base",
        "sealed",
        "total",
    )

    def __init__(self, cap: int, budget: LogBudget) -> None:
        self._budget = budget
        self._first = max(0, cap // 2)
        self._ring_size = max(1, cap - self._first)
        self._memory = bytearray()  # from `base` on
        self._spool: Queue | None = None  # follows `_memory`
        self._ring: Ring | None = None  # follows `_first`
        self._read = self._first  # how far the ring has been moved to memory; `_first` until the log is sealed
        self._sent = 0
        self.base = self.total = 0
        self.sealed = False

    def wants(self) -> bool:
        """May the pipe be read?"""
        if self.total >= self._first or (self._spool is None and len(self._memory) < self._budget.window):
            return True
        if self._budget.connected:
            return False
        spooled = len(self._spool) if self._spool else 0
        return spooled < self._budget.spool_limit and self._budget.disk < self._budget.disk_limit

    def add(self, data: bytes) -> None:
        """Takes what was read from the pipe."""
        room = self._first - self.total
        self.total += len(data)
        if room > 0:
            self._keep(data if len(data) <= room else data[:room])
        if room < len(data):
            self._add_to_ring(data if room <= 0 else data[room:])

    def seal(self) -> None:
        """The program has ended and its pipe is empty: nothing more will come."""
        self.sealed = True
        self._refill()

    @property
    def done(self) -> bool:
        """The head has all of it."""
        return self.sealed and self.base >= self.total

    @property
    def unsent(self) -> bool:
        return self._sent < self.base + len(self._memory) or self._gap_unsaid

    def take(self) -> tuple[int, bytes, int]:
        """The next piece to send: offset, bytes, and how many bytes before it were dropped. Only when `unsent`."""
        if self._gap_unsaid:
            self._sent = self.total
            return self.total, b"", self._dropped
        offset = max(self._sent, self.base)
        start = offset - self.base
        with memoryview(self._memory) as view:
            data = bytes(view[start : start + CHUNK])
        self._sent = offset + len(data)
        return offset, data, self._dropped if offset == self._tail_start else 0

    def rewind(self) -> None:
        """A new connection: send again what the head has not acknowledged."""
        self._sent = self.base

    def acknowledge(self, offset: int) -> None:
        """The head has everything below `offset` on disk."""
        count = min(offset - self.base, len(self._memory))
        if count > 0:
            del self._memory[:count]
            self.base += count
            self._budget.memory -= count
        if self.sealed and offset >= self.total:
            self.discard()
        else:
            self._refill()
        self._sent = max(self._sent, self.base)

    def discard(self) -> None:
        """Frees memory and disk; what was not sent is lost."""
        self._budget.memory -= len(self._memory)
        self._memory.clear()
        self._close_spool()
        if self._ring:
            self._budget.disk -= self._ring_size
            self._ring.close()
            self._ring = None
        self.base = self._sent = self._read = self.total

    @property
    def _tail_start(self) -> int:
        """Where the log goes on after the gap; -1 before that is known."""
        if not self.sealed or self.total <= self._first:
            return -1
        return self._first + self._ring.start if self._ring else self.total

    @property
    def _dropped(self) -> int:
        return max(0, self._tail_start - self._first)

    @property
    def _gap_unsaid(self) -> bool:
        """All that was kept is sent, yet the head cannot know that the rest was dropped: an empty piece tells it."""
        return (
            self.sealed and self._ring is None and self._first < self.total and self.base == self._sent == self._first
        )

    def _keep(self, data: bytes) -> None:
        spool_it = self._spool is not None or (not self._budget.connected and len(self._memory) >= self._budget.window)
        if spool_it and self._append_to_spool(data):
            return
        if self._spool is not None:  # the disk is full: order matters more than the window
            self._load_spool(len(self._spool))
        self._memory += data
        self._budget.memory += len(data)

    def _append_to_spool(self, data: bytes) -> bool:
        try:
            if self._spool is None:
                self._spool = Queue(self._budget.file())
            self._spool.append(data)
        except OSError as error:
            log.error(
                "cannot spool logs in %s: %s; tasks that print will wait for the head", self._budget.directory, error
            )
            self._budget.disk_limit = 0
            return False
        self._budget.disk += len(data)
        return True

    def _add_to_ring(self, data: bytes) -> None:
        try:
            if self._ring is None:
                if self.total - len(data) > self._first:
                    return  # the disk refused the ring before
                room = max(CHUNK, self._budget.disk_limit - self._budget.disk)
                self._ring_size = min(self._ring_size, room)
                self._ring = Ring(self._budget.file(), self._ring_size)
                self._budget.disk += self._ring_size
            self._ring.append(data)
        except OSError as error:
            log.error("cannot keep the end of a long log in %s: %s", self._budget.directory, error)
            if self._ring:
                self._budget.disk -= self._ring_size
                self._ring.close()
                self._ring = None

    def _refill(self) -> None:
        """Moves bytes from disk to memory as the window allows."""
        room = self._budget.window - len(self._memory)
        if self._spool and room > 0:
            room -= self._load_spool(room)
        if self._spool or not self.sealed or self._ring is None or room <= 0:
            return
        start = self._tail_start
        if start > self._first and self._read < start:
            if self._memory:
                return  # memory holds one run of offsets: the part before the gap leaves first
            self.base = self._sent = self._read = start
        self._load_ring(room)

    def _load_spool(self, limit: int) -> int:
        assert self._spool is not None
        loaded = 0
        while loaded < limit and len(self._spool):
            data = self._spool.take(min(CHUNK, limit - loaded))
            self._memory += data
            loaded += len(data)
        self._budget.memory += loaded
        self._budget.disk -= loaded
        if not len(self._spool):
            self._close_spool()
        return loaded

    def _close_spool(self) -> None:
        if self._spool is not None:
            self._budget.disk -= len(self._spool)
            self._spool.close()
            self._spool = None

    def _load_ring(self, room: int) -> None:
        assert self._ring is not None
        while room > 0 and self._read < self.total:
            data = self._ring.read(self._read - self._first, min(room, CHUNK))
            self._memory += data
            self._budget.memory += len(data)
            self._read += len(data)
            room -= len(data)
