"""Ray's dashboard in a browser of this user: its token gets there as the cookie that Ray itself sets for whoever types it in.

A browser has cookies by host, not by port, so a port of ours on 127.0.0.1 can give one to Ray's. That port leads there once: at
`/open` whoever is this user, and at `/TICKET` whoever was told the ticket.
"""

from __future__ import annotations

import asyncio
import hmac
import http.client
import socket
from contextlib import closing, suppress
from urllib.parse import urlsplit

from clusterctl_runtime.backoff import Backoff, wait_until

from clusterctl.client.local_page import plain, refusal, see_other
from clusterctl.core.errors import ClusterctlError

COOKIE = "ray-authentication-token"  # Ray's AUTHENTICATION_TOKEN_COOKIE_NAME
_MAX_HEADER = 64 * 1024
_SECONDS = 10.0  # for the rest of a request


def await_answer(target: str, seconds: float) -> None:
    """Until Ray's dashboard answers at `target`: it starts after the rest of Ray. Raises ClusterctlError after `seconds`."""

    def answers() -> bool:
        try:
            with closing(http.client.HTTPConnection(urlsplit(target).netloc, timeout=seconds)) as connection:
                connection.request("HEAD", "/")
                return bool(connection.getresponse().status)
        except (OSError, http.client.HTTPException):
            return False

    if not wait_until(answers, Backoff(0.1, 1.0, seconds=seconds)):
        raise ClusterctlError(
            f"Ray's dashboard does not answer on the head node after {seconds:g} s: `clusterctl status` says when it did "
            "not start, ray.log in the cluster's directory here what was in the way"
        )


async def lead(sock: socket.socket, ticket: str, target: str, token: str, seconds: float) -> None:
    """Returns when a browser was led to `target`, a base URL on 127.0.0.1. Raises ClusterctlError after `seconds`."""
    led = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.TimeoutError):
            request = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _SECONDS)
            answer = _answer(writer, request, ticket, target, token) if not led.is_set() else b""
            writer.write(answer)
            await writer.drain()
            if answer.startswith(b"HTTP/1.1 303"):
                led.set()
        writer.close()

    server = await asyncio.start_server(serve, sock=sock, limit=_MAX_HEADER)
    async with server:
        try:
            await asyncio.wait_for(led.wait(), seconds)
        except asyncio.TimeoutError:
            raise ClusterctlError(f"nobody opened the address within {seconds:g} s: ask for another") from None


def _answer(writer: asyncio.StreamWriter, request: bytes, ticket: str, target: str, token: str) -> bytes:
    method, _, rest = request.partition(b"\r\n")[0].partition(b" ")
    path = rest.partition(b" ")[0]
    if method != b"GET" or not (path == b"/open" or hmac.compare_digest(path, b"/" + ticket.encode())):
        return plain(404, "Not Found", "There is nothing here.\n")
    if refused := refusal(writer, request):
        return refused
    return see_other(f"{target}/", f"Set-Cookie: {COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict")
