"""The logs of a job over HTTP, as they grow.

A log is bytes, and JSON is text: `data` is the text with U+FFFD for what is not UTF-8, and where there is any, `base64` has
the bytes themselves. A piece never ends inside a character.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Query, Response

from clusterctl_runtime.head.api.context import LARGEST, HeadDep
from clusterctl_runtime.head.api.streams import SignOfLife, first_of, ndjson
from clusterctl_runtime.head.jobs.job import Attempt, Job, number_of, task_id

if TYPE_CHECKING:
    from clusterctl_runtime.head.head import Head

router = APIRouter(prefix="/api/v1", tags=["jobs"])
LATE_LOG_SECONDS = 10.0  # how long a finished job's stream waits for the last bytes of its log
TAIL_BYTES = 16 * 1024 * 1024  # the most that the last lines may be, unless the reader says otherwise


@router.get("/jobs/{job_id}/logs")
async def read_logs(
    job_id: str,
    head: HeadDep,
    rank: int | None = None,
    attempt: int | None = None,
    follow: bool = False,
    tail: int | None = Query(default=None, ge=0, le=LARGEST),
    tail_bytes: int = Query(default=TAIL_BYTES, ge=1, le=LARGEST),
    offset: int = Query(default=0, ge=0, le=LARGEST),
) -> Response:
    """Lines of {"rank","attempt","offset","next","data"[,"base64"][,"cut"]}; `offset` and `next` count bytes of the stored log.
    `tail`: from the last so many lines of each log, and at most `tail_bytes` of it; `cut` says that this is inside a line.
    Ends with {"end": true}."""
    reader = LogReader(head, head.book.get(job_id), rank=rank, attempt=attempt, offset=offset)
    if tail is not None:
        reader.begin_at_tail(tail, tail_bytes)
    return ndjson(reader.lines(follow))


class LogReader:
    """Reads the logs of a job's ranks as they grow, the latest attempt's or a given one's; goes on with each retry."""

    def __init__(
        self, head: Head, job: Job, *, rank: int | None = None, attempt: int | None = None, offset: int = 0
    ) -> None:
        self._head, self._job = head, job
        self._rank, self._attempt, self._offset = rank, attempt, offset
        self._tail: tuple[int, int] | None = None  # lines, bytes
        self._first = attempt or (number_of(job.attempts[-1].id) if job.attempts else 1)
        self._positions: dict[str, int] = {}
        self._final_since: float | None = None

    def begin_at_tail(self, lines: int, most: int) -> None:
        """Begin with the last `lines` lines of each log, and at most `most` bytes of it."""
        self._tail = (lines, most)

    async def lines(self, follow: bool) -> AsyncIterator[Any]:
        """Objects as `read_logs` describes them, None for a sign of life. With `follow` it goes on until the job, or the
        attempt that was asked for, has ended and its logs are whole, LATE_LOG_SECONDS after that end at the latest."""
        life = SignOfLife()
        behind: set[str] = set()  # logs that had something when they were last looked at, so that they may have more
        with self._head.logs.watching(self._job.id) as watch:
            while True:
                changed = self._head.book.changed(self._job.id)
                over = self._is_over()  # judged before reading: what arrived until then is read below
                behind |= watch.take()
                progressed = False
                for task, attempt, rank in self._tasks():
                    if task in self._positions and task not in behind:
                        continue
                    behind.discard(task)
                    piece = await asyncio.to_thread(self._next, task, attempt, rank, False)
                    if piece:
                        behind.add(task)
                        progressed = True
                        yield piece
                if progressed:
                    life.said()
                    continue
                if not follow or over:
                    break
                await first_of([changed, watch.event], min(1.0, life.due_in) if self._job.final else life.due_in)
                if life.is_due():
                    yield None
        for task, attempt, rank in self._tasks():  # the beginnings of characters that never became whole
            if piece := await asyncio.to_thread(self._next, task, attempt, rank, True):
                yield piece
        job = self._job
        yield {"end": True, "state": job.state, "exit_code": job.exit_code, "reason": job.reason}

    def _attempts(self) -> list[Attempt]:
        wanted = [a for a in self._job.attempts if number_of(a.id) >= self._first]
        return [a for a in wanted if self._attempt in (None, number_of(a.id))]

    def _tasks(self) -> list[tuple[str, int, int]]:
        """(task, attempt number, rank) of every log that is asked for."""
        return [
            (task_id(a.id, rank), number_of(a.id), rank)
            for a in self._attempts()
            for rank in range(len(a.nodes))
            if self._rank in (None, rank)
        ]

    def _next(self, task: str, attempt: int, rank: int, last: bool) -> dict[str, Any] | None:
        """The next piece of one log; None when there is none, or but a part of a character and `last` is false."""
        position, cut = self._positions.get(task, self._offset), False
        if task not in self._positions and self._tail is not None:
            position, cut = self._head.logs.tail_position(task, *self._tail)
        data = self._head.logs.read(task, position)
        if not last:
            data = data[: whole_characters(data)]
        self._positions[task] = position + len(data)
        if not data:
            return None
        piece: dict[str, Any] = {"rank": rank, "attempt": attempt, "offset": position, "next": position + len(data)}
        try:
            piece["data"] = data.decode()
        except UnicodeDecodeError:
            piece |= {"data": data.decode(errors="replace"), "base64": base64.b64encode(data).decode()}
        return {**piece, "cut": True} if cut else piece

    def _is_over(self) -> bool:
        last = self._attempts()[-1] if self._attempts() else None
        ended = self._job.final or (self._attempt is not None and last is not None and last.state != "running")
        if not ended:
            self._final_since = None
            return False
        self._final_since = self._final_since or time.monotonic()
        whole = all(self._head.logs.complete(task) for task, _, _ in self._tasks())
        return whole or time.monotonic() - self._final_since > LATE_LOG_SECONDS


_FIRST_BYTES = (
    (0xC2, 0xDF, 2),
    (0xE0, 0xEF, 3),
    (0xF0, 0xF4, 4),
)  # of the characters of UTF-8 that are longer than one


def whole_characters(data: bytes) -> int:
    """How much of `data` does not end inside a character of UTF-8."""
    for back in range(1, min(4, len(data) + 1)):
        byte = data[-back]
        if byte & 0xC0 == 0x80:  # goes on with a character that begins before it
            continue
        length = next((size for first, end, size in _FIRST_BYTES if first <= byte <= end), 1)
        return len(data) - back if length > back else len(data)
    return len(data)
