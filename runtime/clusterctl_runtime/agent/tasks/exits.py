"""Noticing that a child has ended: pidfds where the kernel has them, SIGCHLD elsewhere."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Protocol


class Exits(Protocol):
    """`watch` calls back once, when the child has ended. With pidfds it is still a zombie then, and its group's number
    safe to signal, until `reap`, which returns the exit code (128+N for signal N) and the bytes that the largest of its
    processes had in memory; 0 where that is not known."""

    def watch(self, pid: int, callback: Callable[[], None]) -> None: ...

    def reap(self, pid: int) -> tuple[int, int]: ...


class PidfdExits:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def watch(self, pid: int, callback: Callable[[], None]) -> None:
        fd = os.pidfd_open(pid)
        self._loop.add_reader(fd, self._ended, fd, callback)

    def _ended(self, fd: int, callback: Callable[[], None]) -> None:
        self._loop.remove_reader(fd)
        os.close(fd)
        callback()

    def reap(self, pid: int) -> tuple[int, int]:
        _, status, used = os.wait4(pid, 0)
        return exit_code(status), _peak(used.ru_maxrss)


class SignalExits:
    """Looks at every watched child whenever any has ended."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watched: dict[int, Callable[[], None]] = {}
        self._codes: dict[int, tuple[int, int]] = {}
        loop.add_signal_handler(signal.SIGCHLD, self._look)

    def watch(self, pid: int, callback: Callable[[], None]) -> None:
        self._watched[pid] = callback
        self._loop.call_soon(self._look)

    def _look(self) -> None:
        for pid in list(self._watched):
            done, status, used = os.wait4(pid, os.WNOHANG)
            if done:
                self._codes[pid] = exit_code(status), _peak(used.ru_maxrss)
                self._watched.pop(pid)()

    def reap(self, pid: int) -> tuple[int, int]:
        return self._codes.pop(pid)


def exit_code(status: int) -> int:
    """As a shell gives it: 128 and the signal's number for a program that died of one."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def _peak(size: int) -> int:
    """Bytes; Linux counts KiB, macOS bytes. A child is born with the peak of this process, which it shares memory with until it
    is another program: what is not above that says nothing of the child."""
    if size <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss:
        return 0
    return size if sys.platform == "darwin" else size * 1024


def watch_exits(loop: asyncio.AbstractEventLoop) -> Exits:
    """The best way this system has."""
    if hasattr(os, "pidfd_open"):
        try:
            os.close(os.pidfd_open(os.getpid()))
            return PidfdExits(loop)
        except OSError:
            pass  # a kernel before 5.3, or a sandbox that forbids the call
    return SignalExits(loop)
