"""The one connection to the head: dialled from here, pinned to the cluster's CA, made again whenever it breaks."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections import deque
from typing import Protocol

from clusterctl_runtime.agent.repeats import Repeats
from clusterctl_runtime.backoff import Backoff
from clusterctl_runtime.wire import Bootstrap, Message, WireError, client_context, encode, read_frame, server_name

log = logging.getLogger(__name__)
CONNECT_SECONDS = 10.0
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
STEADY_SECONDS = 60.0  # a connection that lasted so long was a good one: its end is news
_BUFFER_BYTES = 1024 * 1024

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
# What a broken, refused or impostor connection raises; all of it means: try again.
BROKEN = (OSError, EOFError, WireError, asyncio.TimeoutError, ssl.SSLError)


class Refused(Exception):
    """The head does not want this node. `final`: it never will."""

    def __init__(self, message: Message) -> None:
        super().__init__(f"the head refused this node: {message.get('reason') or message.get('code')}")
        self.final = bool(message.get("final"))


class Session(Protocol):
    """Who the link works for."""

    def hello(self) -> Message:
        """The first message of a connection."""
        ...

    def welcome(self, message: Message) -> None:
        """The head let us in."""
        ...

    def parted(self) -> None:
        """The connection has ended; the next one begins with `hello`."""
        ...

    def receive(self, message: Message) -> None:
        """A message of the head."""
        ...

    def outgoing(self) -> list[Message]:
        """What is to be said now; it is not given again."""
        ...

    def vitals(self) -> Message:
        """What goes with a heartbeat."""
        ...

    def next_log(self) -> tuple[Message, bytes] | None:
        """The next piece of a log, with its bytes; None where there is nothing."""
        ...


class Link:
    """`run` keeps a control connection until the head refuses for good. `heard` (monotonic): what we sent then has reached it
    and was answered. It is the moment of sending that counts: whatever the head concludes from our silence, it counts from
    later on."""

    def __init__(self, bootstrap: Bootstrap, session: Session) -> None:
        self._bootstrap, self._session = bootstrap, session
        self._context = client_context(bootstrap.ca_pem)
        self._repeats = Repeats()
        self._wake = asyncio.Event()
        self._welcomed = asyncio.Event()
        self._head = bootstrap.heads[0] if bootstrap.heads else ""
        self._head_was_there = False
        self._beats: deque[tuple[int, float]] = deque()  # that were not answered yet: number, when it was sent
        self.heard = self._last_word = time.monotonic()

    def wake(self) -> None:
        """There is something to send."""
        self._wake.set()

    @property
    def welcomed(self) -> bool:
        """Whether the head has let us in, and the connection stands."""
        return self._welcomed.is_set()

    async def connected(self) -> None:
        """Returns when the head has let us in."""
        await self._welcomed.wait()

    async def run(self) -> None:
        """Never returns; raises Refused when the refusal is final."""
        pauses = Backoff(FIRST_PAUSE, LONGEST_PAUSE, spread=0.5)  # all agents lose a head at once
        while True:
            for head in self._bootstrap.heads:
                try:
                    await self._converse(head)
                except Refused as error:
                    if error.final:
                        raise
                    self._say(logging.WARNING, str(error))
                except BROKEN as error:
                    self._say(logging.INFO, f"no connection to the head at {head}: {error or type(error).__name__}")
                except Exception:  # a fault of ours must not leave the work without a head
                    log.exception("the connection to the head at %s", head)
                if self._head_was_there:
                    self._head_was_there = False
                    pauses.reset()
            await asyncio.sleep(pauses.next())

    def _say(self, level: int, text: str) -> None:
        if line := self._repeats.line(text):
            log.log(level, "%s", line)

    async def dial(self, head: str = "") -> Stream:
        """A TLS connection to the head that answered last. Raises one of BROKEN."""
        host, _, port = (head or self._head).rpartition(":")
        name = server_name(self._bootstrap.uid)
        opening = asyncio.open_connection(host.strip("[]"), int(port), ssl=self._context, server_hostname=name)
        reader, writer = await asyncio.wait_for(opening, CONNECT_SECONDS)
        writer.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return reader, writer

    async def _converse(self, head: str) -> None:
        """One connection, from hello to its end (which always raises)."""
        reader, writer = await self.dial(head)
        sent = time.monotonic()
        try:
            hello = self._session.hello()
            hello["address"] = self._bootstrap.address or writer.get_extra_info("sockname")[0]
            writer.write(encode(hello))
            message, _ = await asyncio.wait_for(read_frame(reader), CONNECT_SECONDS)
            if message["t"] == "refuse":
                raise Refused(message)
            if message["t"] != "welcome":
                raise WireError(f"the head answered {message['t']!r} to hello")
            self._head, self.heard, self._last_word = head, sent, time.monotonic()
            self._head_was_there = True
            self._beats.clear()
            self._session.welcome(message)
            self._welcomed.set()
            self._wake.set()
            await self._talk(reader, writer, message)
        finally:
            writer.transport.abort()
            if self._welcomed.is_set():
                if time.monotonic() - sent > STEADY_SECONDS:
                    self._repeats.forget()
                self._welcomed.clear()
                self._session.parted()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, welcome: Message) -> None:
        writer.transport.set_write_buffer_limits(high=_BUFFER_BYTES)
        tasks = [
            asyncio.ensure_future(self._listen(reader)),
            asyncio.ensure_future(self._write(writer)),
            asyncio.ensure_future(self._beat(writer, welcome)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while True:
            message, _ = await read_frame(reader)
            self._last_word = time.monotonic()
            if message["t"] == "beat":
                self._answered(int(message.get("seq") or 0))
            elif message["t"] == "refuse":
                raise Refused(message)
            else:
                self._receive(message)

    def _answered(self, seq: int) -> None:
        while self._beats and self._beats[0][0] <= seq:
            self.heard = self._beats.popleft()[1]

    def _receive(self, message: Message) -> None:
        try:
            self._session.receive(message)
        except (KeyError, TypeError, ValueError) as error:
            # A head of another version: what this message wanted cannot be done, everything else can.
            log.error("the head's message %r cannot be understood: %r", message["t"], error)

    async def _write(self, writer: asyncio.StreamWriter) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            writer.write(b"".join(map(encode, self._session.outgoing())))
            while frame := self._session.next_log():
                writer.write(encode(*frame))
                if writer.transport.get_write_buffer_size() > _BUFFER_BYTES:
                    self._wake.set()  # reports do not wait behind a flood of logs
                    break
            await writer.drain()

    async def _beat(self, writer: asyncio.StreamWriter, welcome: Message) -> None:
        """Says that this node lives, and notices a head that does not answer any more."""
        every = float(welcome.get("beat_seconds") or 1.0)
        lease = float(welcome.get("lease_seconds") or 10 * every)
        seq = 0
        while True:
            seq += 1
            self._beats.append((seq, time.monotonic()))
            writer.write(encode({**self._session.vitals(), "t": "beat", "seq": seq}))
            await asyncio.sleep(every)
            if time.monotonic() - self._last_word > lease:
                raise asyncio.TimeoutError(f"the head was silent for {lease:g} s")
