"""Long work in the event loop, cut into pieces: whoever else waits for the loop has a turn after each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
AT_ONCE = 250  # jobs that one turn deals with, at some ten microseconds each


async def in_turns(items: Iterable[T], most: int = AT_ONCE) -> AsyncIterator[list[T]]:
    """`items` in lists of at most `most`, each read when its turn has come."""
    iterator = iter(items)
    while part := list(islice(iterator, most)):
        yield part
        if len(part) == most:
            await asyncio.sleep(0)
