"""Whether a target is well: asked from where its requests come."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

from clusterctl_runtime.backoff import Backoff
from clusterctl_runtime.entry.target import Target

CHECK_SECONDS = 5.0  # that it has to answer
EVERY_SECONDS = 5.0  # while it is well
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0  # until it is
FAILURES = 3  # in a row, after which it is not well any more
CONNECT_SECONDS = 3.0


class Checked:
    """`healthy` is None until it was well once or has failed; `why` says what the last check found."""

    def __init__(self, target: Target, changed: Callable[[], None]) -> None:
        self.target = target
        self.healthy: bool | None = True if target.check is None else None
        self.why = ""
        self._changed = changed
        self._failures = 0
        self._soon = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        if self.target.check is not None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def refused(self, why: str) -> None:
        """A request found that nothing takes connections there: it gets no others until a check says that it is well."""
        if self.target.check is not None:
            self._note(False, why)
            self._soon.set()

    async def _run(self) -> None:
        pauses = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            why = await check(self.target)
            self._failures = self._failures + 1 if why else 0
            if not why:
                pauses.reset()
            if not why or not self.healthy or self._failures >= FAILURES:
                self._note(not why, why)
            self._soon.clear()
            pause = EVERY_SECONDS if self.healthy and not why else pauses.next()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._soon.wait(), pause)

    def _note(self, healthy: bool, why: str) -> None:
        if (healthy, why) != (self.healthy, self.why):
            self.healthy, self.why = healthy, why
            self._changed()


async def check(target: Target) -> str:
    """What is wrong with it, "" for nothing."""
    try:
        return await asyncio.wait_for(_check(target), CHECK_SECONDS)
    except (asyncio.TimeoutError, TimeoutError):
        return f"{target.host}:{target.port} did not answer GET {target.check} within {CHECK_SECONDS:g} s"
    except OSError as error:
        return f"no connection to {target.host}:{target.port} ({reason(error)})"


def reason(error: OSError) -> str:
    """The system's own word."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error) or "no answer"


async def _check(target: Target) -> str:
    reader, writer = await asyncio.wait_for(asyncio.open_connection(target.host, target.port), CONNECT_SECONDS)
    try:
        if not target.check:
            return ""
        head = f"GET {target.prefix}{target.check} HTTP/1.1\r\nHost: {target.host}:{target.port}\r\n"
        writer.write(f"{head}User-Agent: clusterctl\r\nConnection: close\r\n\r\n".encode())
        words = (await reader.readline()).split()
    except ValueError:
        words = []
    finally:
        writer.transport.abort()
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        return f"{target.host}:{target.port} does not speak HTTP"
    return "" if words[1].startswith(b"2") else f"GET {target.check} was answered with {words[1].decode()}"
