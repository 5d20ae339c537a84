"""TLS for thousands of connections: streams like those of `asyncio.start_server`, with small buffers.

asyncio's own TLS keeps a read buffer of 256 KiB for each connection, which is nearly all that an idle agent costs the head.
Here all connections read into one buffer (the loop handles one at a time), and OpenSSL's are given back whenever they are empty.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

log = logging.getLogger(__name__)
PIECE = 32 * 1024  # of cipher text that is read at once, and of plain text that is encrypted at once
LIMIT = 64 * 1024  # of unread plain text; from twice as much on nothing more is read
PATIENCE = 5.0  # seconds that a stranger has when others wait
WAITING = 4096  # connections that the kernel holds until they are accepted
AT_ONCE = 16  # connections that are accepted in one turn of the loop
_OVER = (7, 8)  # Linux's TCP_CLOSE and TCP_CLOSE_WAIT

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Secured(asyncio.Transport):
    """What a connection's streams write to and are closed by."""

    def __init__(self, raw: asyncio.Transport, context: ssl.SSLContext, connection: Connection) -> None:
        super().__init__({"sslcontext": context})
        self._raw, self.connection = raw, connection

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return super().get_extra_info(name, None) or self._raw.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.connection.encrypt(data)

    def close(self) -> None:
        """After what was written has gone out."""
        if not self._raw.is_closing():
            self.connection.say_goodbye()
            self._raw.close()

    def abort(self) -> None:
        self._raw.abort()

    def is_closing(self) -> bool:
        return self._raw.is_closing()

    def is_reading(self) -> bool:
        return self._raw.is_reading()

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._raw.set_write_buffer_limits(high, low)

    def can_write_eof(self) -> bool:
        return False


class Connection(asyncio.BufferedProtocol):
    """One connection: what comes from the network goes through OpenSSL to the streams, and back."""

    def __init__(self, context: ssl.SSLContext, buffer: memoryview, timeout: float, serve: Serve) -> None:
        self._context, self._buffer, self._serve = context, buffer, serve
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._streams: asyncio.StreamReaderProtocol | None = None  # once the handshake is done
        self._timeout = timeout
        self._timer: asyncio.TimerHandle | None = None
        self.left: Callable[[], None] = _stay  # called when it is no stranger any more, or has ended

    # ------------------------------------------------------------ from the network

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Whoever has not shaken hands after `timeout` seconds is cut off."""
        assert isinstance(transport, asyncio.Transport)
        self._raw = transport
        self._timer = asyncio.get_running_loop().call_later(self._timeout, transport.abort)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._incoming.write(self._buffer[:nbytes])
        try:
            if self._streams is None and not self._shake_hands():
                return
            self._decrypt()
        except (ssl.SSLError, ValueError):
            with contextlib.suppress(ssl.SSLError):
                self._send()  # OpenSSL's last word says what was wrong
            self._raw.close()

    def eof_received(self) -> None:
        if self._streams is not None:
            self._streams.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._streams is not None:
            self._streams.connection_lost(exc)
        self.left()

    def pause_writing(self) -> None:
        if self._streams is not None:
            self._streams.pause_writing()

    def resume_writing(self) -> None:
        if self._streams is not None:
            self._streams.resume_writing()

    def _shake_hands(self) -> bool:
        """Whether it is done."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
            return False
        self._send()
        self._stop_timer()
        loop = asyncio.get_running_loop()
        self._streams = asyncio.StreamReaderProtocol(asyncio.StreamReader(LIMIT, loop), self._serve, loop)
        self._streams.connection_made(Secured(self._raw, self._context, self))
        return True

    def _decrypt(self) -> None:
        assert self._streams is not None
        while not self._raw.is_closing():
            try:
                data = self._tls.read(PIECE)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                data = b""
            if not data:
                self._streams.eof_received()
                self._raw.close()
                break
            self._streams.data_received(data)
        self._send()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ------------------------------------------------------------ to the network

    def encrypt(self, data: bytes | bytearray | memoryview) -> None:
        """Sends all of it without waiting; what is left when the connection is closing is dropped."""
        view = memoryview(data)
        while view and not self._raw.is_closing():
            view = view[self._tls.write(view[:PIECE]) :]
            self._send()

    def abort(self) -> None:
        self._raw.abort()

    def say_goodbye(self) -> None:
        """Tells the other side that no more comes, and does not wait for its answer."""
        with contextlib.suppress(ssl.SSLError):  # the other side's goodbye is not waited for
            self._tls.unwrap()
        self._send()

    def _send(self) -> None:
        if self._outgoing.pending and not self._raw.is_closing():
            self._raw.write(self._outgoing.read())


def known(writer: asyncio.StreamWriter) -> None:
    """Whoever is at the other end has said who it is: a stranger may come in its place."""
    if isinstance(writer.transport, Secured):
        writer.transport.connection.left()


class TlsServer:
    """Accepts connections on a bound socket and serves each in a task of its own.

    At most `strangers` of them have not said yet who they are. More wait with the kernel until one of these is `known` or gone;
    when none is for `PATIENCE` seconds, the oldest has to go.
    """

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, serve: Serve, strangers: int, timeout: float
    ) -> None:
        self._socket, self._context, self._serve = sock, context, serve
        self._most, self._timeout = strangers, timeout
        self._strangers: dict[Connection, float] = {}  # and since when, oldest first
        self._left = asyncio.Event()
        self._buffer = memoryview(bytearray(PIECE))
        context.num_tickets = 0  # agents stay connected for days: sessions to resume would only cost
        sock.setblocking(False)
        sock.listen(WAITING)
        self._task = asyncio.get_running_loop().create_task(self._accept())

    def close(self) -> None:
        """Nobody else is accepted; connections that were go on, but for strangers."""
        self._task.cancel()
        self._socket.close()
        for stranger in list(self._strangers):
            stranger.abort()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._make_room()
            try:
                sock, _ = await loop.sock_accept(self._socket)
                came = [sock, *self._others(min(AT_ONCE, self._most - len(self._strangers)) - 1)]
            except OSError as error:  # no descriptor is left, or the other side has gone already
                log.warning("a connection could not be accepted: %s", error)
                await asyncio.sleep(0.1)
                continue
            await asyncio.gather(*(self._take(sock) for sock in came))

    def _others(self, most: int) -> Iterator[socket.socket]:
        """More that wait already: when thousands dial at once, one for each turn of the loop would take longer than they wait."""
        for _ in range(most):
            try:
                sock, _ = self._socket.accept()
            except OSError:  # none waits, or what `_accept` will be told of in its turn
                return
            sock.setblocking(False)
            yield sock

    async def _take(self, sock: socket.socket) -> None:
        if _has_hung_up(sock):
            sock.close()  # it stood in line longer than it would wait: a handshake would only keep the others waiting
            return
        loop = asyncio.get_running_loop()
        connection = Connection(self._context, self._buffer, self._timeout, self._serve)
        try:
            await loop.connect_accepted_socket(lambda: connection, sock)
        except OSError as error:
            log.debug("a connection ended as it was accepted: %s", error)
            return
        self._strangers[connection] = loop.time()
        connection.left = functools.partial(self._leaves, connection)

    async def _make_room(self) -> None:
        loop = asyncio.get_running_loop()
        while len(self._strangers) >= self._most:
            oldest, since = next(iter(self._strangers.items()))
            patience = since + PATIENCE - loop.time()
            if patience <= 0:
                log.warning("%d connections have not said who they are: the oldest is closed", len(self._strangers))
                oldest.abort()
                self._leaves(oldest)
                return
            self._left.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._left.wait(), patience)

    def _leaves(self, connection: Connection) -> None:
        connection.left = _stay
        if self._strangers.pop(connection, None) is not None:
            self._left.set()


def _stay() -> None:
    """Who has left once leaves no more, and holds nothing of the server."""


def _has_hung_up(sock: socket.socket) -> bool:
    """Whether the other side has closed it already; false where the kernel does not tell."""
    if not hasattr(socket, "TCP_INFO"):
        return False
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _OVER
    except OSError:
        return True
