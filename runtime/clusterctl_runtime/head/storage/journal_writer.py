"""Brings what the event loop wrote in the journal of nodes to its disk, in a thread: what gathers meanwhile shares one fsync."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from concurrent.futures import ThreadPoolExecutor

from clusterctl.provision.journal.book import Journal, StaleFence

log = logging.getLogger(__name__)
PAUSE_SECONDS = 0.5  # before the next try on a disk that is full


class JournalWriter:
    """`soon` after each write; `flush` for who must not go on before it is on disk."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._waiters: list[asyncio.Future[None]] = []
        self._wanted = False
        self._task: asyncio.Task[None] | None = None

    def soon(self) -> None:
        """What was changed is written soon, together with what others change until then."""
        self._wanted = True
        if self._task is None:
            with contextlib.suppress(RuntimeError):  # without a loop nobody is kept waiting: `close` writes it
                self._task = asyncio.get_running_loop().create_task(self._write())

    async def flush(self) -> None:
        """Returns when all that was written so far is on disk; raises what kept it from there."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(future)
        self.soon()
        await future

    async def _write(self) -> None:
        try:
            while self._wanted:
                self._wanted = False
                waiters, self._waiters = self._waiters, []
                error = await self._commit()
                for waiter in waiters:
                    if not waiter.done():
                        waiter.set_exception(error) if error else waiter.set_result(None)
                if error and not isinstance(error, StaleFence):
                    await asyncio.sleep(PAUSE_SECONDS)
                    self._wanted = True
        finally:
            self._task = None

    async def _commit(self) -> Exception | None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._journal.commit)
            return None
        except Exception as error:
            log.error("the journal of nodes could not be written: %s", error)
            return error

    def close(self) -> None:
        """Writes what is left."""
        if self._task is not None:
            self._task.cancel()
        self._thread.shutdown()
        try:
            self._journal.commit()
        except Exception as error:
            log.error("the last events of nodes are not in the journal: %s", error)
