"""Locks between the threads and processes of a machine: a file that one holds at a time. The kernel lets it go when its holder
and all who inherited it have ended, however they end."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

NOTE_BYTES = 4096  # read of a holder's note


class LockHeld(Exception):
    """Somebody else has it. `note`: what the holder says of itself, or said the one before it; "" for nothing."""

    def __init__(self, path: Path, note: str) -> None:
        super().__init__(f"{path} is locked by another process")
        self.note = note


class Lock:
    """One that is held: until `release`, the end of a `with`, or of this process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        """For a child that is to hold it as well (`pass_fds`)."""
        return self._descriptor

    def release(self) -> None:
        """Children that hold it as well keep it. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def take(path: Path, note: str = "") -> Lock:
    """The lock `path`, at once: raises LockHeld where another has it. `note` is left in the file for those who come later."""
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if note:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, note.encode(), 0)
    except BlockingIOError:
        left = os.pread(descriptor, NOTE_BYTES, 0).decode(errors="replace")
        os.close(descriptor)
        raise LockHeld(path, left) from None
    except BaseException:
        os.close(descriptor)
        raise
    return Lock(descriptor)


def wait_for(path: Path, waits: Callable[[], None] | None = None) -> Lock:
    """The lock `path`, whenever it is free; `waits` is called first where it is not."""
    with contextlib.suppress(LockHeld):
        return take(path)
    if waits is not None:
        waits()
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except BaseException:
        os.close(descriptor)
        raise
    return Lock(descriptor)


def is_held(path: Path) -> bool:
    """Whether somebody has it at this moment. False, too, where it cannot be told."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
