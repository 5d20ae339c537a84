"""What the head says leaves at once: Nagle's algorithm would hold back the second half of each answer on a
connection that is kept, until the other side's delayed acknowledgement, which is 40 ms."""

from __future__ import annotations

import asyncio
import socket

from clusterctl_runtime.head.network.listening import listen


def test_connections_to_the_head_are_not_held_back():
    async def nodelay() -> int:
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            sock = writer.get_extra_info("socket")
            told.set_result(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        sock = listen("127.0.0.1", 0)
        server = await asyncio.start_server(connected, sock=sock)
        _, writer = await asyncio.open_connection("127.0.0.1", sock.getsockname()[1])
        try:
            return await asyncio.wait_for(told, 30)
        finally:
            writer.close()
            server.close()

    assert asyncio.run(nodelay())
