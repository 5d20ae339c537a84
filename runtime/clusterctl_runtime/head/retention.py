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

from clusterctl_runtime.head.blobs import BlobStore
from clusterctl_runtime.head.events import EventLog
from clusterctl_runtime.head.jobs import FINAL, Job, JobBook
from clusterctl_runtime.head.logs import LogStore

log = logging.getLogger(__name__)
LOOK_SECONDS = 3600.0
AT_ONCE = 2000  # jobs forgotten in one commit, so that nobody waits long for theirs


@dataclass(frozen=True)
class Keep:
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
        keep: Keep = Keep(),
    ) -> None:
        self._book, self._events, self._logs, self._blobs = book, events, logs, blobs
        self._in_use, self._keep = in_use, keep

    async def run(self) -> None:
        """Housekeeping is nobody's event: once at the start and then every hour."""
        while True:
            try:
                await self.tidy()
            except Exception:  # the head goes on; the next hour tries again
                log.exception("retention")
            await asyncio.sleep(LOOK_SECONDS)

    async def tidy(self) -> None:
        while jobs := self._too_old():
            self._book.forget(jobs)
            await asyncio.to_thread(self._remove_logs, [job.id for job in jobs])
            log.info("forgot %d jobs that ended long ago", len(jobs))
        self._events.forget_before(self._events.last - self._keep.events + 1)
        needed = {job.request["package"] for job in self._book.jobs.values()} | set(self._in_use())
        await asyncio.to_thread(self._blobs.remove_unused, needed, time.time() - self._keep.blob_seconds)

    def _too_old(self) -> list[Job]:
        ended = sum(self._book.counts[state] for state in FINAL)
        surplus = min(ended - self._keep.jobs, AT_ONCE)
        oldest = (job for job in self._book.jobs.values() if job.final)
        return list(islice(oldest, surplus)) if surplus > 0 else []

    def _remove_logs(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            shutil.rmtree(self._logs.directory(job_id), ignore_errors=True)
