"""A local port for the dashboard: 127.0.0.1 only, bytes pass through to the head as they are.

One path is answered here: `GET /open` leads to the page with a fresh one-time ticket in the address's fragment. So a
browser can be started on an address that holds no secret (command lines can be read by everyone on a machine). It is
answered only to a process of this user, for a request that no other page started.
"""

from __future__ import annotations

import asyncio
import http.client
import socket
from collections.abc import Callable
from contextlib import suppress

from clusterctl.client.local_page import plain, refusal, see_other
from clusterctl.core.errors import ClusterctlError

_OPEN = b"GET /open HTTP/1."
_MAX_HEADER = 64 * 1024

Reach = Callable[[], http.client.HTTPConnection]  # to the head, which has proven that it is; raises ClusterctlError


async def forward(sock: socket.socket, reach: Reach, make_ticket: Callable[[], str]) -> None:
    """Serves until cancelled. `reach` is asked for every connection: the head may have been started again elsewhere, and what
    passes here holds the page's token."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first = await reader.read(len(_OPEN))
            if first == _OPEN:
                rest = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10.0)
                writer.write(await asyncio.to_thread(_answer_open, writer, first + rest, make_ticket))
                await writer.drain()
            elif first:
                await _pipe_both(reader, writer, first, reach)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.TimeoutError):
            pass  # one side went away: so does this connection
        finally:
            writer.close()

    server = await asyncio.start_server(serve, sock=sock, limit=_MAX_HEADER)
    async with server:
        await server.serve_forever()


async def _pipe_both(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes, reach: Reach) -> None:
    try:
        connection = await asyncio.to_thread(reach)
        assert connection.sock is not None
        head_reader, head_writer = await asyncio.open_connection(sock=connection.sock)
    except (ClusterctlError, OSError) as error:
        writer.write(plain(502, "Bad Gateway", f"The head does not answer: {error}\n"))
        return
    head_writer.write(first)
    pipes = [asyncio.ensure_future(_pipe(reader, head_writer)), asyncio.ensure_future(_pipe(head_reader, writer))]
    try:
        await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait(pipes, timeout=5.0)  # what is still on its way the other way round
    finally:
        for pipe in pipes:
            pipe.cancel()
        head_writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(64 * 1024):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


def _answer_open(writer: asyncio.StreamWriter, request: bytes, make_ticket: Callable[[], str]) -> bytes:
    if refused := refusal(writer, request):
        return refused
    try:
        ticket = make_ticket()
    except ClusterctlError as error:
        return plain(502, "Bad Gateway", f"{error}\n")
    return see_other(f"/#ticket={ticket}")
