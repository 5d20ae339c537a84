"""A TCP proxy that is a bad network: it delays each way, cuts what is open, and hangs up on newcomers."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType


class Proxy:
    """Listens on `address`:`port` (0 = any) for connections to `target`. `delay`: seconds each way. `hang_up`: so many newcomers
    are turned away. While `cut`, nothing passes and nobody is let in; what was open is ended."""

    def __init__(
        self,
        target: tuple[str, int],
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        delay: float = 0.0,
        hang_up: int = 0,
    ) -> None:
        self.target, self.delay, self.hang_up = target, delay, hang_up
        self.turned_away = 0
        self._is_cut = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, address, port), self._loop
        ).result(60)
        self.port = int(self._server.sockets[0].getsockname()[1])

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def cut(self) -> None:
        self._is_cut = True
        self._loop.call_soon_threadsafe(self._abort)

    def restore(self) -> None:
        self._is_cut = False

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        self._abort()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _abort(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut or self.turned_away < self.hang_up:
            self.turned_away += 1
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        try:
            await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
        except asyncio.CancelledError:
            return  # this is the end of the proxy
        finally:
            self._writers -= {writer, far_writer}
            for one in (writer, far_writer):
                one.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """In order, each piece `delay` after it came."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        async def deliver() -> None:
            while True:
                due, data = await waiting.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                if not data:
                    if writer.can_write_eof():
                        writer.write_eof()
                    return
                writer.write(data)
                await writer.drain()

        delivery = asyncio.ensure_future(deliver())
        try:
            while True:
                data = await reader.read(1 << 16)
                waiting.put_nowait((loop.time() + self.delay, data))
                if not data:
                    await delivery
                    return
        except OSError:
            return
        finally:
            delivery.cancel()
