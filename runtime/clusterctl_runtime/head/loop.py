"""The head's event loop: asyncio's, but one turn of it deals with a few connections only.

asyncio takes all that is ready at once. When thousands of agents speak at the same moment, that is one turn of seconds in which
no timer fires and nobody who waits inside goes on. Here the kernel keeps the others, first come first served.
"""

from __future__ import annotations

import asyncio
import select
import selectors
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
AT_ONCE = 50  # events of connections in one turn, at some hundred microseconds each


class _Portions:
    """An epoll object of which one look takes at most `AT_ONCE` events: those it did not take come first in the next one."""

    def __init__(self) -> None:
        self._epoll = select.epoll()

    def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
        return self._epoll.poll(timeout, min(most, AT_ONCE))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)


def new_loop() -> asyncio.AbstractEventLoop:
    """Where there is no epoll, asyncio's loop as it is."""
    if not hasattr(select, "epoll"):
        return asyncio.SelectorEventLoop()
    selector = selectors.EpollSelector()
    selector._selector.close()  # type: ignore[attr-defined]
    selector._selector = _Portions()  # type: ignore[attr-defined]
    return asyncio.SelectorEventLoop(selector)


def run(main: Coroutine[Any, Any, T]) -> T:
    """As asyncio.run."""
    if sys.version_info >= (3, 11):
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(main)

    class Policy(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self) -> asyncio.AbstractEventLoop:
            return new_loop()

    asyncio.set_event_loop_policy(Policy())
    return asyncio.run(main)
