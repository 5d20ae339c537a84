"""A local port for the dashboard: 127.0.0.1 only, bytes pass through to the head as they are.

One path is answered here: `GET /open` leads to the page with a fresh one-time ticket in the address's fragment. So a
browser can be started on an address that holds no secret (command lines can be read by everyone on a machine). It is
answered only to a process of this user, for a request that no other page started.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from clusterctl.core.errors import ClusterctlError

_OPEN = b"GET /open HTTP/1."
_MAX_HEADER = 64 * 1024
_TCP_TABLE = Path("/proc/net/tcp")

Reach = Callable[[], http.client.HTTPConnection]  # to the head, which has proven that it is; raises ClusterctlError


def can_tell_users_apart() -> bool:
    """Whether this system says to whom a local connection belongs."""
    return _TCP_TABLE.exists()


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
        writer.write(_plain(502, "Bad Gateway", f"The head does not answer: {error}\n"))
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
    host, port = writer.get_extra_info("sockname")[:2]
    headers = _headers(request)
    # A foreign name that resolves to this address, or another site's page, could read the ticket in the address.
    if headers.get("host") != f"{host}:{port}" or headers.get("sec-fetch-site", "none") != "none":
        return _plain(403, "Forbidden", "Type this address into the address bar yourself.\n")
    if not _belongs_to_us(writer.get_extra_info("peername"), (host, port)):
        return _plain(403, "Forbidden", "This page belongs to another user of this machine.\n")
    try:
        ticket = make_ticket()
    except ClusterctlError as error:
        return _plain(502, "Bad Gateway", f"{error}\n")
    lines = ["HTTP/1.1 303 See Other", f"Location: /#ticket={ticket}", "Cache-Control: no-store", "Content-Length: 0"]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode()


def _headers(request: bytes) -> dict[str, str]:
    """Names in lower case. A name that is given twice gets a value that fits nothing."""
    found: dict[str, str] = {}
    for line in request.decode("latin-1").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            key = name.strip().lower()
            found[key] = "\0" if key in found else value.strip()
    return found


def _belongs_to_us(peer: tuple[str, int], here: tuple[str, int]) -> bool:
    """Whether the other end of a loopback connection is a socket of this user, by the kernel's table."""
    local, remote = _in_table(*peer[:2]), _in_table(*here)
    try:
        rows = [line.split() for line in _TCP_TABLE.read_text().splitlines()[1:]]
    except OSError:
        return False
    return any(row[1] == local and row[2] == remote and row[7] == str(os.getuid()) for row in rows)


def _in_table(host: str, port: int) -> str:
    """An address as /proc/net/tcp writes it: hexadecimal, the address in the machine's byte order."""
    number = int.from_bytes(socket.inet_aton(host), sys.byteorder)
    return f"{number:08X}:{port:04X}"


def _plain(status: int, phrase: str, text: str) -> bytes:
    body = text.encode()
    head = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Cache-Control: no-store\r\nConnection: close\r\n\r\n" + body
