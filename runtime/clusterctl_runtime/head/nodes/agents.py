"""The TLS listener that agents dial in to: admission, one session per node, blobs, and the agent's own bundle."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from clusterctl.core.model import NodeState
from clusterctl_runtime import wire
from clusterctl_runtime.head.network.silence import Watch
from clusterctl_runtime.head.network.tls import TlsServer, known
from clusterctl_runtime.head.nodes.admission import Admission, Verdict
from clusterctl_runtime.head.nodes.bundle_server import serve_bundle
from clusterctl_runtime.head.nodes.standby import Standby
from clusterctl_runtime.head.storage.blobs import BlobStore
from clusterctl_runtime.head.storage.events import EventLog
from clusterctl_runtime.head.storage.store import Store

log = logging.getLogger(__name__)

BEAT_SECONDS = 2.0
BEATS_A_SECOND = 500  # of all agents: from a thousand on each one beats less often, and the head answers no more
LONGEST_BEAT = 10.0  # a third of the lease
LEASE_SECONDS = 30.0  # of silence, after which either side ends the connection; the agent then dials again
HELLO_TIMEOUT = 15.0
STRANGERS = 256  # connections that have not said hello yet; more wait to be accepted
ALARMS_A_MINUTE = 10  # events of one kind that refused nodes can cause
BUNDLE_TIMEOUT = 60.0
ANYWHERE = ("::", "0.0.0.0")  # noqa: S104  as sockets on every address call it
SEND_BUFFER = 8 * 1024 * 1024
SUSPICIOUS = frozenset(
    {"bad_secret", "token_used", "wrong_cluster"}
)  # the rest is a node that is late, not an intruder


class Session:
    """The connection of one node's agent. `send` never blocks: an agent that does not read is cut off."""

    def __init__(self, node_id: str, generation: int, writer: asyncio.StreamWriter) -> None:
        self.node_id = node_id
        self.generation = generation
        self._writer = writer

    def send(self, message: wire.Message, payload: bytes = b"") -> None:
        """Does nothing once the connection is closing. Raises WireError for a message that is too large for a frame."""
        if self._writer.is_closing():
            return
        self._writer.write(wire.encode(message, payload))
        if self._writer.transport.get_write_buffer_size() > SEND_BUFFER:
            log.warning("node %s does not read: closing its connection", self.node_id)
            self._writer.transport.abort()

    def close(self) -> None:
        """Ends the connection; the agent dials again."""
        self._writer.close()


def beat_seconds(nodes: int) -> float:
    """How often an agent is to beat where there are so many."""
    return min(LONGEST_BEAT, max(BEAT_SECONDS, nodes / BEATS_A_SECOND))


class Receiver(Protocol):
    """What the head does with sessions (see `fleet.Fleet`)."""

    def node_status(self, node_id: str) -> tuple[int, NodeState] | None:
        """(generation, state) of a node on record; None for others."""
        ...

    def node_count(self) -> int:
        """How many nodes there are: it decides how often each agent is to speak."""
        ...

    async def joined(self, session: Session, hello: wire.Message) -> None:
        """An agent was let in."""
        ...

    def received(self, session: Session, message: wire.Message, payload: bytes) -> None:
        """A message of an agent that was let in; `payload` is what came with it."""
        ...

    def left(self, session: Session) -> None:
        """The connection has ended, however."""
        ...


class AgentServer:
    def __init__(
        self,
        uid: str,
        admission: Admission,
        blobs: BlobStore,
        store: Store,
        events: EventLog,
        receiver: Receiver,
        bundle: Path,
    ) -> None:
        self._uid = uid
        self._bundle = bundle
        self._admission = admission
        self._blobs = blobs
        self._store = store
        self._events = events
        self._receiver = receiver
        self.standby: Standby | None = None  # set by the head where machines of an inventory wait for their claim
        self.wheels: Callable[[str], Path | None] = lambda digest: None  # those of engine environments, by digest
        self._servers: list[TlsServer] = []
        self._connections: set[asyncio.Task[Any]] = set()
        self._alarms: dict[str, deque[float]] = {}
        self.ports = [0]

    async def start(self, sockets: Sequence[socket.socket], context: ssl.SSLContext) -> None:
        """Serves on all of them; the first is the one that nodes to come are told."""
        self.ports = [sock.getsockname()[1] for sock in sockets]
        self._servers: list[TlsServer] = []
        self._hosts: set[str] = set()
        self.serve_too(sockets, context)

    def serve_too(self, sockets: Sequence[socket.socket], context: ssl.SSLContext) -> None:
        """Serves on more sockets, of ports that it has already."""
        self._hosts |= {sock.getsockname()[0] for sock in sockets}
        self._servers += [TlsServer(sock, context, self._serve, STRANGERS, HELLO_TIMEOUT) for sock in sockets]

    def hears(self, host: str) -> bool:
        """Whether it is served on that address of this machine."""
        return not self._hosts.isdisjoint({host, *ANYWHERE})

    @property
    def port(self) -> int:
        """The one that nodes to come dial; nodes of before may know others."""
        return self.ports[0]

    async def stop(self) -> None:
        """Ends all connections and waits for them."""
        for server in self._servers:
            server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._converse(reader, writer)
        except (wire.WireError, OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
            log.debug("agent connection ended: %r", error)
        except asyncio.CancelledError:
            pass
        except Exception as error:  # whatever a peer sends, it ends its own connection and nothing else
            log.warning("an agent connection ended on a message that makes no sense: %r", error)
        finally:
            self._connections.discard(task)
            writer.close()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> wire.Message | None:
        """The hello of whoever dialled in; None when it only came for the bundle."""
        begun = await asyncio.wait_for(reader.readexactly(4), HELLO_TIMEOUT)
        if begun == b"GET ":  # as the length of a frame it would be over the limit
            await asyncio.wait_for(serve_bundle(reader, writer, self._bundle), BUNDLE_TIMEOUT)
            return None
        hello, _ = await asyncio.wait_for(wire.read_frame(reader, begun, wire.MAX_HELLO), HELLO_TIMEOUT)
        known(writer)
        return hello

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = await self._greet(reader, writer)
        if hello is None:
            return
        if hello.get("t") == "hello" and hello.get("purpose") == "standby" and self.standby is not None:
            await self.standby.serve(reader, writer, hello)
            return
        verdict = self._judge(hello)
        if not verdict.ok:
            if verdict.code in SUSPICIOUS:
                self._alarm(str(hello.get("node_id", "?"))[:80], verdict)
            else:
                log.info("%r was refused: %s", hello.get("node_id"), verdict.reason)
            writer.write(
                wire.encode({"t": "refuse", "code": verdict.code, "reason": verdict.reason, "final": verdict.final})
            )
            await writer.drain()
            return
        await self._store.flush()
        welcome: wire.Message = {
            "t": "welcome",
            "wire": wire.WIRE_VERSION,
            "beat_seconds": beat_seconds(self._receiver.node_count()),
            "lease_seconds": LEASE_SECONDS,
        }
        if verdict.credential:
            welcome["credential"] = verdict.credential
        writer.write(wire.encode(welcome))
        if hello.get("purpose") == "blob":
            await self._serve_blobs(reader, writer)
        else:
            await self._serve_node(reader, writer, hello)

    def _alarm(self, name: str, verdict: Verdict) -> None:
        """An event for people, unless there were many of its kind just now: they must not fill the disk."""
        log.warning("%r was refused: %s", name, verdict.reason)
        recent = self._alarms.setdefault(verdict.code, deque(maxlen=ALARMS_A_MINUTE))
        if len(recent) < ALARMS_A_MINUTE or time.monotonic() - recent[0] > 60.0:
            recent.append(time.monotonic())
            self._events.add("security", name, verdict.code, f"refused to join: {verdict.reason}")

    def _judge(self, hello: wire.Message) -> Verdict:
        node_id, generation = hello.get("node_id"), hello.get("generation")
        if hello.get("t") != "hello" or hello.get("wire") != wire.WIRE_VERSION:
            return Verdict(
                False,
                code="wire_version",
                reason=f"the agent speaks wire version {hello.get('wire')!r}, this head {wire.WIRE_VERSION}: "
                "run `clusterctl up` with one version everywhere",
            )
        if hello.get("uid") != self._uid:
            return Verdict(False, code="wrong_cluster", reason="it belongs to another cluster", final=True)
        if not isinstance(node_id, str) or not node_id.isprintable() or not isinstance(generation, int):
            return Verdict(False, code="bad_hello", reason="its hello names no node and generation", final=True)
        status = self._receiver.node_status(node_id)
        if status is None:
            return Verdict(False, code="unknown_node", reason=f"node {node_id!r} is not in this cluster's journal")
        current, state = status
        if generation != current or state in (NodeState.GONE, NodeState.TERMINATING, NodeState.FAILED):
            return Verdict(
                False,
                code="stale_node",
                reason=f"node {node_id} generation {generation} is no longer wanted (state {state.value}, generation {current})",
                final=True,
            )
        if state in (NodeState.STOPPING, NodeState.STOPPED):
            return Verdict(False, code="stopping", reason=f"node {node_id} is being stopped: nothing runs on it now")
        return self._admission.admit(node_id, generation, str(hello.get("secret", "")), str(hello.get("boot_id", "")))

    async def _serve_node(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hello: wire.Message
    ) -> None:
        session = Session(hello["node_id"], int(hello["generation"]), writer)
        try:
            await self._receiver.joined(session, hello)
            with Watch(writer, LEASE_SECONDS) as watch:
                while True:
                    message, payload = await wire.read_frame(reader)
                    watch.heard()
                    self._receiver.received(session, message, payload)
        finally:
            self._receiver.left(session)

    async def _serve_blobs(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            message, _ = await wire.read_frame(reader)
            if message["t"] != "get":
                raise wire.WireError(f"unexpected {message['t']!r} on a blob connection")
            await self._send_blob(writer, str(message.get("digest", "")), int(message.get("offset") or 0))

    async def _send_blob(self, writer: asyncio.StreamWriter, digest: str, offset: int) -> None:
        path = self._blobs.path(digest) if self._blobs.has(digest) else self.wheels(digest)
        if path is None:
            writer.write(wire.encode({"t": "blob", "digest": digest, "size": 0, "missing": True}))
            return
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(0, min(offset, size)))
            nothing = file.tell() == size
            while True:
                piece = file.read(wire.MAX_PAYLOAD // 4)
                if piece or nothing:
                    writer.write(wire.encode({"t": "blob", "digest": digest, "size": size}, piece))
                    await writer.drain()
                if not piece:
                    return
