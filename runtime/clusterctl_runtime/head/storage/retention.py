"""What is forgotten, so that a head can run for years: the oldest jobs that have ended with their logs, old events, and
packed files that no job needs any more. Nothing that is queued or runs is ever touched.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

from clusterctl_runtime.head.jobs.book import JobBook
from clusterctl_runtime.head.jobs.job import Job
from clusterctl_runtime.head.storage.blobs import BlobStore
from clusterctl_runtime.head.storage.events import EventLog
from clusterctl_runtime.head.storage.logs import LogStore
from clusterctl_runtime.head.storage.store import Store
from clusterctl_runtime.head.turns import AT_ONCE

log = logging.getLogger(__name__)
LOOK_SECONDS = (
    10.0  # between looks at how many there are: at hundreds of jobs a second, some thousands more than are kept
)
BLOBS_SECONDS = 3600.0
MEASURE_SECONDS = 600.0
EVENTS_AT_ONCE = 5000  # dropped in one commit, so that nobody waits long for theirs


@dataclass(frozen=True)
class RetentionLimits:
    """`jobs`: that have ended, the newest; `events`: the newest; `blob_seconds`: age below which a package stays though no
    job names it, since its client is about to."""

    jobs: int = 20_000
    events: int = 200_000
    blob_seconds: float = 24 * 3600.0


class Retention:
    """`in_use()` names the packages that the spec's files need."""

    def __init__(
        self,
        book: JobBook,
        events: EventLog,
        logs: LogStore,
        blobs: BlobStore,
        in_use: Callable[[], Iterable[str]],
        store: Store,
        limits: RetentionLimits = RetentionLimits(),
    ) -> None:
        self._book, self._events, self._logs, self._blobs = book, events, logs, blobs
        self._in_use, self._store, self._limits = in_use, store, limits

    async def run(self) -> None:
        """Housekeeping is nobody's event: it looks now and then. A look that finds nothing to do costs nothing."""
        blobs_at = measure_at = 0.0
        while True:
            try:
                await self.tidy()
                if time.monotonic() >= blobs_at:
                    blobs_at = time.monotonic() + BLOBS_SECONDS
                    await self.tidy_blobs()
                if time.monotonic() >= measure_at:
                    await asyncio.to_thread(self._measure)
                    measure_at = time.monotonic() + MEASURE_SECONDS
            except Exception:  # the head goes on; the next look tries again
                log.exception("retention")
            await asyncio.sleep(LOOK_SECONDS)

    async def tidy(self) -> None:
        """Jobs and events, as many at a time as make nobody wait."""
        while jobs := self._too_old():
            self._book.forget(jobs)
            await asyncio.to_thread(self._remove_logs, [job.id for job in jobs])
            self._book.erase(jobs)  # last: after a crash they are forgotten once more, with what is left of their logs
            await self._store.flush()
            log.info("forgot %d jobs that ended long ago", len(jobs))
        until = self._events.last - self._limits.events + 1
        while (first := self._events.first) < until:
            self._events.forget_before(min(until, first + EVENTS_AT_ONCE))
            await self._store.flush()

    async def tidy_blobs(self) -> None:
        """Drops packages that nothing names and that are old enough."""
        needed = self._book.packages() | set(self._in_use())
        await asyncio.to_thread(self._blobs.remove_unused, needed, time.time() - self._limits.blob_seconds)

    def _measure(self) -> None:
        self._logs.measure()
        self._blobs.measure()

    def _too_old(self) -> list[Job]:
        """Of those that ended, the first."""
        surplus = min(len(self._book.ended) - self._limits.jobs, AT_ONCE)
        return list(islice(self._book.ended.values(), surplus)) if surplus > 0 else []

    def _remove_logs(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            shutil.rmtree(self._logs.directory(job_id), ignore_errors=True)
