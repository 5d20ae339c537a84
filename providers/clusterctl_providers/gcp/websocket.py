"""A websocket to a server (RFC 6455), with what the standard library has: as much of it as Google's relay speaks.

One task reads, any may write. Messages are binary and whole; nothing is compressed, since nothing of the kind is asked for.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import http.client
import io
import os
import secrets
import socket
import ssl
import urllib.request
from collections.abc import Mapping
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # of the RFC
CONNECT_SECONDS = 20.0
LARGEST = 1 << 20  # bytes of a message, and of an answer's head
_CONTINUED, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x2, 0x8, 0x9, 0xA
_TEXT = 0x1


class Refused(Exception):
    """The server, or a proxy on the way, answered with something else than a websocket."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status} {text}".strip())
        self.status, self.text = status, text


class Closed(Exception):
    """The other side has ended it; `code` is 1006 where the line broke, and 1005 where it gave none."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}".strip())
        self.code, self.reason = code, reason


class WebSocket:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, url: str, headers: Mapping[str, str], protocol: str) -> WebSocket:
        """`url`: ws:// or wss://; through the proxy of the environment where it names one. Raises Refused and OSError."""
        parts = urlsplit(url)
        secure = parts.scheme == "wss"
        host, port = str(parts.hostname), parts.port or (443 if secure else 80)
        line = await asyncio.to_thread(_connected, host, port, secure)
        tls: dict[str, Any] = {"ssl": _trusting(), "server_hostname": host} if secure else {}
        reader, writer = await asyncio.open_connection(sock=line, limit=LARGEST, **tls)
        self = cls(reader, writer)
        try:
            await asyncio.wait_for(self._agree(parts.netloc, f"{parts.path}?{parts.query}", headers, protocol), 30.0)
        except BaseException:
            writer.close()
            raise
        return self

    async def _agree(self, host: str, target: str, headers: Mapping[str, str], protocol: str) -> None:
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        ours = {
            "Host": host, "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": key,
            "Sec-WebSocket-Version": "13", "Sec-WebSocket-Protocol": protocol, **headers,
        }  # fmt: skip
        text = "".join(f"{name}: {value}\r\n" for name, value in ours.items())
        self._writer.write(f"GET {target} HTTP/1.1\r\n{text}\r\n".encode())
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise Refused(0, "the line broke off before there was an answer") from error
        status, answer = _head(head)
        if status != 101:
            length = min(int(answer.get("Content-Length") or 0), 2000)
            body = await self._reader.read(length) if length else b""
            raise Refused(status, " ".join(body.decode("utf-8", "replace").split()))
        wanted = base64.b64encode(hashlib.sha1((key + _GUID).encode(), usedforsecurity=False).digest()).decode()
        if answer.get("Sec-WebSocket-Accept") != wanted or answer.get("Sec-WebSocket-Protocol") != protocol:
            raise Refused(status, "it does not speak the protocol that was asked for")

    # ------------------------------------------------------------ messages

    async def send(self, message: bytes) -> None:
        await self._write(_BINARY, message)

    async def ping(self) -> None:
        await self._write(_PING, b"")

    async def receive(self) -> bytes:
        """The next message. Raises Closed."""
        parts: list[bytes] = []
        while True:
            final, kind, data = await self._frame()
            if kind == _PING:
                await self._write(_PONG, data)
            elif kind == _CLOSE:
                code = int.from_bytes(data[:2], "big") if len(data) >= 2 else 1005
                await self.close(code if len(data) >= 2 else 1000)
                raise Closed(code, data[2:].decode("utf-8", "replace"))
            elif kind in (_BINARY, _TEXT, _CONTINUED):
                parts.append(data)
                if sum(map(len, parts)) > LARGEST:
                    raise Closed(1009, "a message is too long")
                if final:
                    return b"".join(parts)

    async def close(self, code: int = 1000) -> None:
        """Says so and waits for nothing."""
        with contextlib.suppress(Closed):
            await self._write(_CLOSE, code.to_bytes(2, "big"))
        self._writer.close()

    async def _frame(self) -> tuple[bool, int, bytes]:
        try:
            first, second = await self._reader.readexactly(2)
            length = second & 0x7F
            if length > 125:
                length = int.from_bytes(await self._reader.readexactly(2 if length == 126 else 8), "big")
            if length > LARGEST:
                raise Closed(1009, "a message is too long")
            mask = await self._reader.readexactly(4) if second & 0x80 else b""
            data = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise Closed(1006, "the line broke") from error
        return bool(first & 0x80), first & 0x0F, _masked(data, mask) if mask else data

    async def _write(self, kind: int, data: bytes) -> None:
        """A client masks what it sends."""
        length = len(data)
        if length < 126:
            size = bytes([0x80 | length])
        elif length < 1 << 16:
            size = bytes([0x80 | 126]) + length.to_bytes(2, "big")
        else:
            size = bytes([0x80 | 127]) + length.to_bytes(8, "big")
        mask = secrets.token_bytes(4)
        try:
            self._writer.write(bytes([0x80 | kind]) + size + mask + _masked(data, mask))
            await self._writer.drain()
        except OSError as error:
            raise Closed(1006, "the line broke") from error


def _masked(data: bytes, mask: bytes) -> bytes:
    """Each byte with its turn of the four of the mask; as one large number, which Python is fast with."""
    if not data:
        return data
    pattern = (mask * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(pattern, "big")).to_bytes(len(data), "big")


def _connected(host: str, port: int, secure: bool) -> socket.socket:
    """A line to the server, through the proxy of the environment where there is one."""
    proxy = urllib.request.getproxies().get("https" if secure else "http", "")
    if not proxy or urllib.request.proxy_bypass(host):
        return socket.create_connection((host, port), CONNECT_SECONDS)
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    line = socket.create_connection((str(parts.hostname), parts.port or 8080), CONNECT_SECONDS)
    try:
        _through(line, f"{host}:{port}", unquote(f"{parts.username}:{parts.password or ''}") if parts.username else "")
    except BaseException:
        line.close()
        raise
    return line


def _through(proxy: socket.socket, target: str, login: str) -> None:
    auth = f"Proxy-Authorization: Basic {base64.b64encode(login.encode()).decode()}\r\n" if login else ""
    proxy.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{auth}\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):  # one by one: what follows is not ours to read
        byte = proxy.recv(1)
        if not byte or len(head) > LARGEST:
            raise Refused(0, "the proxy of the environment broke off")
        head += byte
    status, _ = _head(head)
    if status != 200:
        raise Refused(status, "said the proxy of the environment")


def _head(head: bytes) -> tuple[int, Message]:
    """Status and headers of an answer."""
    line, _, rest = head.partition(b"\r\n")
    words = line.split(maxsplit=2)
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    return status, http.client.parse_headers(io.BytesIO(rest))


def _trusting() -> ssl.SSLContext:
    """The authorities that `requests` trusts, so that all of a cloud's calls trust the same."""
    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    given = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or DEFAULT_CA_BUNDLE_PATH
    if Path(given).is_dir():
        return ssl.create_default_context(capath=given)
    return ssl.create_default_context(cafile=given)
