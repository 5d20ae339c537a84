"""`python -m clusterctl_runtime.entry`: the process. Told what to do over its standard input, in JSON lines; tells on its
standard output. The last word on its input is kept when that ends: the head is being started again, and requests go on.

in     {"t": "listen", "port", "public": {"host", "port", "certificate", "key"} or null, "shares"}      first, and when it
                 changes; "shares": an earlier entry of this cluster may listen there
       {"t": "set", "name", "number", "targets": [Target], "tokens": [sha256]}      {"t": "drop", "name"}      {"t": "end"}
out    {"t": "listens", "port", "public", "error"}
       {"t": "set", "name", "number", "targets": {id: {"open", "healthy", "why"}}}      answers each "set": from now on it holds.
                 Who is not named has left, and has nothing open
       {"t": "target", "name", "id", "open", "healthy", "why"}      whenever something of it has changed, some times a second
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import signal
import socket
import ssl
import sys
from typing import Any

from clusterctl_runtime.entry.proxy import PIECE, Proxy
from clusterctl_runtime.entry.router import Open, Service
from clusterctl_runtime.entry.target import Target

log = logging.getLogger(__name__)
ORPHAN_SECONDS = 60.0  # without a head
DRAIN_SECONDS = 600.0  # for what is open when another entry has taken over
TELL_SECONDS = 0.1


class Entry:
    def __init__(self) -> None:
        self._services: dict[str, Service] = {}
        self._proxy = Proxy(self._services)
        self._listening: list[tuple[asyncio.Server, socket.socket, ssl.SSLContext | None]] = []
        self._changed: dict[tuple[str, str], Open] = {}
        self._dirty = asyncio.Event()
        self._ended = asyncio.Event()
        self._orphan = False
        self._port = 0

    async def run(self) -> None:
        """Until it is told to end, or another entry has taken over."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._ended.set)
        orders = asyncio.StreamReader(limit=16 * 1024 * 1024)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
        tasks = [asyncio.create_task(self._obey(orders)), asyncio.create_task(self._tell_changes())]
        await self._ended.wait()
        for server, sock, context in self._listening:
            await self._take_last(sock, context)
            server.close()
        await self._proxy.drain(DRAIN_SECONDS if self._orphan else 1.0)
        for task in tasks:
            task.cancel()

    async def _obey(self, orders: asyncio.StreamReader) -> None:
        try:
            while line := await orders.readline():
                await self._do(json.loads(line))
        except Exception:
            log.exception("its orders make no sense")
        self._orphan = True
        asyncio.get_running_loop().call_later(ORPHAN_SECONDS if self._port else 0.0, self._ended.set)

    async def _do(self, order: dict[str, Any]) -> None:
        name = str(order.get("name"))
        if order["t"] == "listen":
            await self._listen(order)
        elif order["t"] == "set":
            service = self._services.get(name)
            if service is None:
                service = self._services[name] = Service(lambda target: self._note(name, target))
            service.use([Target.from_json(item) for item in order["targets"]], order["tokens"])
            self._tell({"t": "set", "name": name, "number": order["number"], "targets": service.states()})
        elif order["t"] == "drop" and name in self._services:
            self._services.pop(name).use((), ())
        elif order["t"] == "end":
            self._orphan = False
            self._ended.set()

    async def _listen(self, order: dict[str, Any]) -> None:
        """Can be said again, with another public address."""
        told: dict[str, Any] = {"t": "listens", "port": self._port, "public": None, "error": ""}
        if not self._port:
            told["port"] = self._port = await self._serve("127.0.0.1", int(order["port"]), None, order["shares"])
        for listening in [one for one in self._listening if one[2] is not None]:
            self._listening.remove(listening)
            listening[0].close()
        public = order["public"]
        if public:
            try:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.minimum_version = ssl.TLSVersion.TLSv1_2
                context.load_cert_chain(public["certificate"], public["key"])
                told["public"] = await self._serve(public["host"], int(public["port"]), context, order["shares"])
            except OSError as error:  # ssl.SSLError is one
                where = f"{public['host']}:{public['port']}"
                told["error"] = f"services are not reached at {where} ({error.strerror or error})"
        self._tell(told)

    async def _serve(self, host: str, port: int, context: ssl.SSLContext | None, shares: bool) -> int:
        """Returns the port. `shares`: an earlier entry of this cluster may listen there, and this one takes over."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # else asyncio sets no TCP_NODELAY
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if host == "::":
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            if port and not shares:
                _refuse_taken(family, host, port)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((host, port))
        except OSError:
            sock.close()
            if context is None and port:
                return await self._serve(host, 0, None, False)
            raise
        patience = None if context is None else 10.0
        server = await asyncio.start_server(
            self._proxy, sock=sock, ssl=context, limit=PIECE, backlog=1024, ssl_handshake_timeout=patience
        )
        self._listening.append((server, sock, context))
        return int(sock.getsockname()[1])

    async def _take_last(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        """Whoever has connected and was not taken yet would be cut off when the socket is closed."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = sock.accept()
            except OSError:
                return
            connection.setblocking(False)
            reader = asyncio.StreamReader(limit=PIECE)
            protocol = asyncio.StreamReaderProtocol(reader, self._proxy)
            await loop.connect_accepted_socket(lambda p=protocol: p, connection, ssl=context)

    # ------------------------------------------------------------ telling

    def _note(self, name: str, target: Open) -> None:
        self._changed[name, target.target.id] = target
        self._dirty.set()

    async def _tell_changes(self) -> None:
        while True:
            await self._dirty.wait()
            await asyncio.sleep(TELL_SECONDS)
            self._dirty.clear()
            changed, self._changed = self._changed, {}
            for (name, target_id), target in changed.items():
                self._tell({"t": "target", "name": name, "id": target_id, **target.state()})

    def _tell(self, message: dict[str, Any]) -> None:
        if self._orphan:
            return
        try:
            sys.stdout.write(json.dumps(message) + "\n")
            sys.stdout.flush()
        except OSError:
            self._orphan = True


def _refuse_taken(family: socket.AddressFamily, host: str, port: int) -> None:
    """Raises OSError where anybody listens there: another cluster's entry would share the port, and get half of the requests."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def main() -> None:
    os.umask(0o077)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65536) if most > 0 else 65536, most))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(Entry().run())


if __name__ == "__main__":
    main()
