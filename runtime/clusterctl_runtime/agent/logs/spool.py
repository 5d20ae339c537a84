"""Log bytes on disk: a queue for what the head cannot take yet, and a ring for the end of a flood."""

from __future__ import annotations

import os
from pathlib import Path


def _open(path: Path) -> int:
    """A file without a name: it is gone when the agent is, however that ends."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    path.unlink()
    return fd


class Queue:
    """First in, first out."""

    def __init__(self, path: Path) -> None:
        self._fd = _open(path)
        self._read = self._written = 0

    def __len__(self) -> int:
        return self._written - self._read

    def append(self, data: bytes) -> None:
        """Raises OSError when the disk is full; nothing of `data` counts as taken then."""
        done = 0
        while done < len(data):
            done += os.pwrite(self._fd, data[done:] if done else data, self._written + done)
        self._written += len(data)

    def take(self, limit: int) -> bytes:
        """The oldest bytes, at most `limit` of them; none where it is empty."""
        data = os.pread(self._fd, min(limit, len(self)), self._read)
        self._read += len(data)
        return data

    def close(self) -> None:
        os.close(self._fd)


class Ring:
    """Keeps the last `size` bytes of what is appended."""

    def __init__(self, path: Path, size: int) -> None:
        self._fd = _open(path)
        self._size = size
        self._written = 0

    def append(self, data: bytes) -> None:
        """Raises OSError when the disk is full; some of `data` may count as taken then."""
        self._written += max(0, len(data) - self._size)
        view = memoryview(data)[-self._size :]
        while view:
            position = self._written % self._size
            done = os.pwrite(self._fd, view[: self._size - position], position)
            self._written += done
            view = view[done:]

    @property
    def start(self) -> int:
        """How many of the appended bytes are gone."""
        return max(0, self._written - self._size)

    def read(self, offset: int, limit: int) -> bytes:
        """Bytes from `offset` (counted from the first byte ever appended), fewer where the file wraps."""
        position = offset % self._size
        return os.pread(self._fd, min(limit, self._written - offset, self._size - position), position)

    def close(self) -> None:
        os.close(self._fd)
