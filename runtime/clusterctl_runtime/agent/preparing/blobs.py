"""Fetching blobs from the head by their digests, over a connection of its own so that logs and reports do not wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing

from clusterctl_runtime.agent.link import BROKEN, Link
from clusterctl_runtime.agent.preparing.packages import PackageError
from clusterctl_runtime.wire import Message, encode, read_frame

_SILENCE_SECONDS = 60.0
AHEAD = 16  # blobs that are asked for before they are read
MAX_BLOB_BYTES = 2 * 1024**3


async def fetch_wheel(link: Link, hello: Callable[[], Message], digest: str, offset: int) -> AsyncIterator[bytes]:
    """A wheel's bytes from `offset` on. Raises OSError; asking again may help."""
    async with aclosing(fetch_blobs(link, hello, [digest], offset)) as blobs:
        try:
            async for _, pieces in blobs:
                async for piece in pieces:
                    yield piece
        except PackageError:
            raise ConnectionError("the head does not have it") from None


async def fetch_blobs(
    link: Link, hello: Callable[[], Message], digests: Sequence[str], offset: int = 0
) -> AsyncGenerator[tuple[str, AsyncIterator[bytes]]]:
    """One blob after the other, over one connection, once the head is there: its digest and its bytes, which are to be read to
    their end. `offset`: where the first begins. Raises OSError when the connection breaks, PackageError when trying again is of
    no use."""
    await link.connected()
    try:
        reader, writer = await link.dial()
    except BROKEN as error:
        raise _broken(error) from error
    try:
        writer.write(encode(hello()))
        asked = 0
        for number, digest in enumerate(digests):
            for following in digests[asked : number + AHEAD]:  # so that the next one follows at once
                writer.write(encode({"t": "get", "digest": following, "offset": 0 if asked else offset}))
                asked += 1
            yield digest, _pieces(reader, digest, 0 if number else offset)
    finally:
        writer.transport.abort()


async def _pieces(reader: asyncio.StreamReader, digest: str, offset: int) -> AsyncIterator[bytes]:
    received = offset
    while True:
        try:
            message, payload = await asyncio.wait_for(read_frame(reader), _SILENCE_SECONDS)
        except BROKEN as error:
            raise _broken(error) from error
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


def _broken(error: BaseException) -> OSError:
    return OSError(f"the connection to the head broke ({error or type(error).__name__})")
