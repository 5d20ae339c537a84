"""Hears of changes of the mount table, and of programs behind mounts that end: events of the kernel, nothing is asked for."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable

from clusterctl_runtime.files.mount_table import TABLE


class TableWatch:
    """`changed` is called in the loop after something was mounted or unmounted here, or a watched program has ended."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = changed
        self._table = os.open(TABLE, os.O_RDONLY | os.O_CLOEXEC)
        # The table is always readable; that it has changed is an exceptional condition, which asyncio does not wait for.
        self._poll = select.epoll()
        self._poll.register(self._table, select.EPOLLPRI)
        self._loop.add_reader(self._poll.fileno(), self._heard)
        self._programs: dict[int, int] = {}  # pid -> descriptor

    def _heard(self) -> None:
        self._poll.poll(0)
        self._changed()

    def program(self, pid: int) -> None:
        """Watches a process, whoever's child it is."""
        if pid in self._programs:
            return
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            self._loop.call_soon(self._changed)
            return
        self._programs[pid] = descriptor
        self._loop.add_reader(descriptor, self._ended, pid)

    def _ended(self, pid: int) -> None:
        descriptor = self._programs.pop(pid)
        self._loop.remove_reader(descriptor)
        os.close(descriptor)
        self._changed()

    def close(self) -> None:
        self._loop.remove_reader(self._poll.fileno())
        self._poll.close()
        os.close(self._table)
        for descriptor in self._programs.values():
            self._loop.remove_reader(descriptor)
            os.close(descriptor)
        self._programs.clear()
