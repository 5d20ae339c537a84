"""Gives a new machine its agent: one GET, by the digest that its bootstrap document names."""

from __future__ import annotations

import asyncio
from pathlib import Path

MOST_HEADER = 8192


async def serve_bundle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, bundle: Path) -> None:
    """Answers the rest of a request of which "GET " was read. `bundle` is agent-DIGEST.pyz. It is no secret: whoever
    reaches this port may have it."""
    path = (await reader.readuntil(b" ")).strip().decode("ascii", "replace")
    size = len(path)
    while (line := await reader.readline()).strip():
        size += len(line)
        if size > MOST_HEADER:
            return
    if bundle.name == f"agent-{path.removeprefix('/bundle/')}.pyz" and path.startswith("/bundle/"):
        status, body = b"200 OK", await asyncio.to_thread(bundle.read_bytes)
    else:
        status, body = b"404 Not Found", b""
    head = b"HTTP/1.1 %s\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    writer.write(head % (status, len(body)) + body)
    await writer.drain()
