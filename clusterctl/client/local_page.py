"""What a local port that a browser is started on answers: to a process of this user alone, and to no other site's page."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

_TCP_TABLE = Path("/proc/net/tcp")


def can_tell_users_apart() -> bool:
    """Whether this system says to whom a local connection belongs."""
    return _TCP_TABLE.exists()


def refusal(writer: asyncio.StreamWriter, request: bytes) -> bytes:
    """The answer to a request, its first line and headers, that is not this user's own; else nothing."""
    host, port = writer.get_extra_info("sockname")[:2]
    headers = _headers(request)
    # A foreign name that resolves to this address, or another site's page, could read what this leads to.
    if headers.get("host") != f"{host}:{port}" or headers.get("sec-fetch-site", "none") != "none":
        return plain(403, "Forbidden", "Type this address into the address bar yourself.\n")
    if not _belongs_to_us(writer.get_extra_info("peername"), (host, port)):
        return plain(403, "Forbidden", "This page belongs to another user of this machine.\n")
    return b""


def see_other(place: str, *headers: str) -> bytes:
    """A redirection. `headers`: more lines of its head."""
    lines = ["HTTP/1.1 303 See Other", f"Location: {place}", *headers, "Cache-Control: no-store", "Content-Length: 0"]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode()


def plain(status: int, phrase: str, text: str) -> bytes:
    """A sentence."""
    body = text.encode()
    head = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Cache-Control: no-store\r\nConnection: close\r\n\r\n" + body


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
