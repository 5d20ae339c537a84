"""What a caller of the HTTP API may cost: the bytes of a body, the seconds for sending it, and how many callers there are.

Every program of this machine can reach the port, so all of this holds before anybody has shown a token. A body is counted
as it comes, whatever its header says: it may be chunked, slow, or never end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import h11
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

log = logging.getLogger(__name__)

STRANGERS_BYTES = 4 * 1024  # a ticket has 43 characters
BODY_BYTES = 32 * 1024 * 1024  # of who has a token; packages are counted where they are stored
STRANGERS_SECONDS = 10.0  # for a whole request
REQUEST_SECONDS = 10.0  # for its line and headers
MOST_CONNECTIONS = 1024  # at one time; the agents' files and sockets must not run out for the sake of these


class Body:
    """The body of one request, as the application receives it, of at `most` so many bytes (None: counted elsewhere), within
    `seconds` (None: any time).

    Where a limit is passed, the application hears that the caller is gone, and `exceeded` says which one: "bytes" or
    "seconds"."""

    def __init__(self, receive: Receive, most: int | None, seconds: float | None) -> None:
        self._receive = receive
        self.most, self.seconds = most, seconds
        self._deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
        self._seen = 0
        self._whole = False
        self.exceeded = ""

    async def __call__(self) -> Message:
        if self.exceeded:
            return {"type": "http.disconnect"}
        message = await self._next()
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self.most is not None and self._seen > self.most:
                self.exceeded = "bytes"
        return {"type": "http.disconnect"} if self.exceeded else message

    async def _next(self) -> Message:
        if self._deadline is None or self._whole:  # after the body only the end of the connection is waited for
            return await self._receive()
        try:
            left = self._deadline - asyncio.get_running_loop().time()
            return await asyncio.wait_for(self._receive(), left)
        except asyncio.TimeoutError:
            self.exceeded = "seconds"
            return {"type": "http.disconnect"}


def body_of(scope: Scope, receive: Receive, principal: Any) -> Body:
    """Who shows a token may take its time."""
    if principal is None:
        return Body(receive, STRANGERS_BYTES, STRANGERS_SECONDS)
    is_package = scope["method"] == "PUT" and scope["path"].startswith("/api/v1/blobs/")
    return Body(receive, None if is_package else BODY_BYTES, None)


class Answered:
    """`send` of one request: knows whether an answer has begun, and takes none that begins once it is `forfeit`."""

    def __init__(self, send: Send, forfeit: Callable[[], bool]) -> None:
        self._send = send
        self._forfeit = forfeit
        self.begun = False

    async def __call__(self, message: Message) -> None:
        if self.begun or not self._forfeit():
            self.begun = True
            await self._send(message)


class PunctualProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 that lets nobody keep a connection without asking something."""

    _overdue: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """One above MOST_CONNECTIONS is aborted."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            log.warning("%d connections to the API at one time: another one is refused", MOST_CONNECTIONS)
            transport.abort()
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """A request has to be there, with all its headers, so many seconds after the last one was read."""
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._forget()
        elif self._overdue is None:
            self._overdue = self.loop.call_later(REQUEST_SECONDS, self.transport.close)

    def _forget(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None
