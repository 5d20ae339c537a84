"""The agents' listener: ordinary streams over TLS, small in memory, and closed to nobody by a crowd."""

from __future__ import annotations

import asyncio
import contextlib
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from clusterctl_runtime import wire
from clusterctl_runtime.head.network.certs import ensure_certificates, server_context
from clusterctl_runtime.head.network.listening import listen
from clusterctl_runtime.head.network.tls import TlsServer, known

UID = "c0ffee"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def serving(directory: Path, serve, strangers: int = 256) -> AsyncIterator[int]:
    ensure_certificates(directory, UID)
    sock = listen("127.0.0.1", 0)
    server = TlsServer(sock, server_context(directory), serve, strangers, timeout=60)
    try:
        yield sock.getsockname()[1]
    finally:
        server.close()


async def dial(directory: Path, port: int) -> Streams:
    context = wire.client_context((directory / "ca.pem").read_text())
    name = wire.server_name(UID)
    return await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(100_000):
            writer.write(data)
            await writer.drain()
    writer.close()


def test_what_is_said_arrives_whole_and_in_order_both_ways(tmp_path: Path) -> None:
    data = bytes(range(256)) * 40_000

    async def talk() -> bytes:
        async with serving(tmp_path, echo) as port:
            reader, writer = await dial(tmp_path, port)
            writer.write(data)
            answer = await asyncio.wait_for(reader.readexactly(len(data)), 60)
            writer.close()
            return answer

    assert asyncio.run(talk()) == data


def test_what_was_written_before_a_close_arrives(tmp_path: Path) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 3_000_000)
        writer.close()

    async def listen_to_the_end() -> bytes:
        async with serving(tmp_path, speak) as port:
            reader, writer = await dial(tmp_path, port)
            heard = await asyncio.wait_for(reader.read(), 60)
            writer.close()
            return heard

    assert len(asyncio.run(listen_to_the_end())) == 3_000_000


def test_a_connection_keeps_no_buffer_of_its_own_for_what_it_may_read(tmp_path: Path) -> None:
    many = 40

    async def crowd() -> int:
        async with serving(tmp_path, echo) as port:
            first = [await dial(tmp_path, port)]  # whatever is made once
            tracemalloc.start(25)
            only_here = tracemalloc.Filter(True, "*/clusterctl_runtime/head/tls.py", all_frames=True)
            made = [await dial(tmp_path, port) for _ in range(many)]
            for reader, writer in made:
                writer.write(b"y" * 200_000)
                await asyncio.wait_for(reader.readexactly(200_000), 60)
            statistics = tracemalloc.take_snapshot().filter_traces([only_here]).statistics("filename")
            tracemalloc.stop()
            for _, writer in first + made:
                writer.close()
            return sum(statistic.size for statistic in statistics)

    assert asyncio.run(crowd()) / many < 64 * 1024


def test_strangers_wait_for_each_other_and_the_oldest_goes_when_none_says_who_it_is(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("clusterctl_runtime.head.network.tls.PATIENCE", 0.2)

    async def serve_the_third() -> bytes:
        async with serving(tmp_path, echo, strangers=2) as port:
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            reader, writer = await asyncio.wait_for(dial(tmp_path, port), 60)
            writer.write(b"here")
            heard = await asyncio.wait_for(reader.readexactly(4), 60)
            assert await asyncio.wait_for(silent[0][0].read(), 60) == b"", "the oldest was hung up on"
            for _, one in (*silent, (reader, writer)):
                one.close()
            return heard

    assert asyncio.run(serve_the_third()) == b"here"


def test_who_is_known_leaves_room_for_the_next_stranger(tmp_path: Path) -> None:
    async def serve_many() -> int:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(1)
            known(writer)
            await echo(reader, writer)

        async with serving(tmp_path, greet, strangers=1) as port:
            made: list[Streams] = []
            for _ in range(5):  # with the room of one, and nobody ever leaves
                reader, writer = await asyncio.wait_for(dial(tmp_path, port), 60)
                writer.write(b"!ok")
                assert await asyncio.wait_for(reader.readexactly(2), 60) == b"ok"
                made.append((reader, writer))
            for _, writer in made:
                writer.close()
            return len(made)

    assert asyncio.run(serve_many()) == 5
