"""NDJSON streams: a JSON object a line, an empty line as a sign of life."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

from fastapi.responses import StreamingResponse

KEEP_ALIVE_SECONDS = 15.0


def line_of(item: Any) -> bytes:
    """With its newline; None is a sign of life, an empty line."""
    return b"\n" if item is None else json.dumps(item, separators=(",", ":")).encode() + b"\n"


def ndjson(lines: AsyncIterator[Any]) -> StreamingResponse:
    """`lines` yields objects, or None for a keep-alive, or bytes: what `line_of` made of an object."""

    async def encode() -> AsyncIterator[bytes]:
        async for line in lines:
            yield line if isinstance(line, bytes) else line_of(line)

    return StreamingResponse(encode(), media_type="application/x-ndjson", headers={"X-Accel-Buffering": "no"})


class SignOfLife:
    """When a stream that has nothing to say must show that it lives: however often its reader's news turn out to be none."""

    def __init__(self) -> None:
        self._said_at = time.monotonic()

    def said(self) -> None:
        """Something went out just now: silence is counted from here."""
        self._said_at = time.monotonic()

    @property
    def due_in(self) -> float:
        """Seconds."""
        return max(0.0, self._said_at + KEEP_ALIVE_SECONDS - time.monotonic())

    def is_due(self) -> bool:
        """Once per KEEP_ALIVE_SECONDS of silence."""
        if self.due_in > 0:
            return False
        self.said()
        return True


async def first_of(events: Iterable[asyncio.Event], timeout: float) -> bool:
    """Waits until one of `events` is set; False after `timeout` seconds."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        done, _ = await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
    finally:
        for wait in waits:
            wait.cancel()
