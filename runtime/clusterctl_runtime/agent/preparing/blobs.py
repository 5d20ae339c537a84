"""Fetching a blob from the head by its digest, over a connection of its own so that logs and reports do not wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from clusterctl_runtime.agent.link import BROKEN, Link
from clusterctl_runtime.agent.preparing.packages import PackageError
from clusterctl_runtime.wire import Message, encode, read_frame

_SILENCE_SECONDS = 60.0
MAX_BLOB_BYTES = 2 * 1024**3


async def fetch_wheel(link: Link, hello: Callable[[], Message], digest: str, offset: int) -> AsyncIterator[bytes]:
    """A wheel's bytes from `offset` on. Raises OSError; asking again may help."""
    try:
        async for piece in fetch_blob(link, hello, digest, offset):
            yield piece
    except PackageError:
        raise ConnectionError("the head does not have it") from None


async def fetch_blob(link: Link, hello: Callable[[], Message], digest: str, offset: int = 0) -> AsyncIterator[bytes]:
    """The blob's bytes from `offset` on, once the head is there. Raises OSError when the connection breaks, PackageError when
    trying again is of no use."""
    await link.connected()
    try:
        reader, writer = await link.dial()
        try:
            writer.write(encode(hello()) + encode({"t": "get", "digest": digest, "offset": offset}))
            async for piece in _pieces(reader, digest, offset):
                yield piece
        finally:
            writer.transport.abort()
    except BROKEN as error:
        raise OSError(f"the connection to the head broke ({error or type(error).__name__})") from error


async def _pieces(reader: asyncio.StreamReader, digest: str, offset: int) -> AsyncIterator[bytes]:
    received = offset
    while True:
        message, payload = await asyncio.wait_for(read_frame(reader), _SILENCE_SECONDS)
        if message["t"] == "refuse":
            raise PackageError(f"the head refused to send package {digest[:12]}: {message.get('reason')}")
        if message["t"] != "blob" or message.get("digest") != digest:
            continue  # the welcome
        if message.get("missing"):
            raise PackageError(f"the head has no package {digest[:12]}: submit the job again")
        if int(message["size"]) > MAX_BLOB_BYTES:
            raise PackageError(f"package {digest[:12]} has {message['size']} bytes, more than {MAX_BLOB_BYTES}")
        received += len(payload)
        yield payload
        if received >= int(message["size"]):
            return
