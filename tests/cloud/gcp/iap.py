"""The relay of the Identity-Aware Proxy: a websocket in frames, a line to a port of a machine, and what lies between: a token, a
permission, and the firewall of the machine's network. The websocket is another library's, which knows the whole RFC."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from typing import Any

from websockets.exceptions import InvalidHandshake
from websockets.frames import Frame, Opcode
from websockets.http11 import Request as Handshake
from websockets.server import ServerProtocol
from werkzeug.wrappers import Request

from tests.cloud.gcp.services import Services
from tests.cloud.gcp.tokens import Tokens
from tests.cloud.gcp.world import PROJECT, Principal, Refusal, World

HOST = "tunnel.cloudproxy.app"
SUBPROTOCOL = "relay.tunnel.cloudproxy.app"
ORIGIN = "bot:iap-tunneler"
NETWORK = ipaddress.ip_network("35.235.240.0/20")
PERMISSION = "iap.tunnelInstances.accessViaIAP"
CONNECTED, DATA, ACK = 0x0001, 0x0004, 0x0007
LARGEST = 16384
BACKEND, READ_FAILED, FORBIDDEN, UNKNOWN = 4003, 4010, 4033, 4047
Machine = tuple[str, dict[str, Any]]  # (address, the instance as Compute shows it)


class Iap:
    """`machine`: where an instance (zone, name) is, None for one that does not run; `rules`: the firewall rules of the project.
    `acknowledged`: the bytes that clients have confirmed, one number for each line; `unconfirmed`: the most that the relay has
    sent without."""

    def __init__(
        self,
        world: World,
        tokens: Tokens,
        machine: Callable[[str, str], Machine | None],
        rules: Callable[[], Iterable[dict[str, Any]]],
    ) -> None:
        self._world, self._tokens, self.machine, self.rules = world, tokens, machine, rules
        self.acknowledged: list[int] = []
        self.cut_after: int | None = None  # bytes to the client after which the next line breaks

    def install(self, services: Services) -> None:
        services.add_plain(HOST, lambda request, path: _Hijacked(self, path))  # type: ignore[arg-type,return-value]

    # ------------------------------------------------------------ a line

    def serve(self, path: str, environ: dict[str, Any]) -> None:
        line = _Line(environ["werkzeug.socket"], Request(environ))
        query = line.request.args
        if path != "/v4/connect" or line.request.headers.get("Origin") != ORIGIN:
            return line.refuse(404)
        if "relay" in self._world.disabled_services:
            return line.refuse(503)
        try:
            principal = self._tokens.principal(line.request.headers.get("Authorization", ""))
        except Refusal:
            return line.refuse(401)
        if not line.open():
            return None
        given = {name: query.get(name, "") for name in ("project", "zone", "instance", "interface", "port")}
        if not all(given.values()) or set(query) - {*given, "newWebsocket"}:
            return line.close(4000, "bad parameters")
        return self._connect(line, principal, given)

    def _connect(self, line: _Line, principal: Principal, given: dict[str, str]) -> None:
        name = f"projects/{PROJECT}/iap_tunnel/zones/{given['zone']}/instances/{given['instance']}"
        with self._world.lock:
            self._world.called_by.append((principal.email, PERMISSION))
            allowed = given["project"] == PROJECT and self._world.permitted(principal, PERMISSION, name)
        if not allowed:
            return line.close(FORBIDDEN, "not authorized")
        found = self.machine(given["zone"], given["instance"])
        if found is None:
            return line.close(UNKNOWN, "Failed to lookup instance")
        address, instance = found
        port = int(given["port"])
        try:
            if not self._is_open(instance, port):
                raise TimeoutError
            backend = socket.create_connection((address, port), 5.0)
        except OSError:
            return line.close(BACKEND, "failed to connect to backend")
        with backend:
            session = b"session-1"
            line.send(struct.pack(">HI", CONNECTED, len(session)) + session)
            return self._pump(line, backend)

    def _is_open(self, instance: dict[str, Any], port: int) -> bool:
        """Whether some rule lets the relay's addresses to that port of this machine."""
        tags = set(instance.get("tags", {}).get("items", ()))
        network = str(instance["networkInterfaces"][0].get("network", "")).rpartition("/")[2]
        found = [
            (int(rule.get("priority", 1000)), "denied" in rule)
            for rule in self.rules()
            if _lets(rule, port, network, tags)
        ]
        return bool(found) and not min(found, key=lambda one: (one[0], not one[1]))[1]

    def _pump(self, line: _Line, backend: socket.socket) -> None:
        index = len(self.acknowledged)
        self.acknowledged.append(0)
        thread = threading.Thread(target=self._outward, args=(line, backend), daemon=True)
        thread.start()
        with contextlib.suppress(OSError):
            for message in line.messages():
                tag = int.from_bytes(message[:2], "big")
                if tag == DATA:
                    (length,) = struct.unpack_from(">I", message, 2)
                    assert length == len(message) - 6 <= LARGEST, "a frame's length is that of what it carries"
                    backend.sendall(message[6:])
                elif tag == ACK:
                    (self.acknowledged[index],) = struct.unpack_from(">Q", message, 2)
        with contextlib.suppress(OSError):
            backend.shutdown(socket.SHUT_RDWR)
        thread.join(10)

    def _outward(self, line: _Line, backend: socket.socket) -> None:
        sent = 0
        with contextlib.suppress(OSError):
            while data := backend.recv(LARGEST):
                line.send(struct.pack(">HI", DATA, len(data)) + data)
                sent += len(data)
                if self.cut_after is not None and sent >= self.cut_after:
                    self.cut_after = None
                    return line.cut()
        return line.close(READ_FAILED, "destination read failed")


class _Line:
    """A websocket over the connection that a request came by."""

    def __init__(self, connection: socket.socket, request: Request) -> None:
        self._connection, self.request = connection, request
        self._protocol = ServerProtocol(subprotocols=[SUBPROTOCOL])  # type: ignore[list-item]
        self._lock = threading.Lock()

    def refuse(self, status: int) -> None:
        self._connection.sendall(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())

    def open(self) -> bool:
        head = "".join(f"{name}: {value}\r\n" for name, value in self.request.headers.items())
        self._protocol.receive_data(f"GET {self.request.full_path} HTTP/1.1\r\n{head}\r\n".encode())
        (handshake,) = self._protocol.events_received()
        assert isinstance(handshake, Handshake)
        try:
            answer = self._protocol.accept(handshake)
        except InvalidHandshake:
            return False
        self._protocol.send_response(answer)
        self._flush()
        return answer.status_code == 101

    def send(self, message: bytes) -> None:
        with self._lock:
            self._protocol.send_binary(message)
            self._flush()

    def close(self, code: int, reason: str) -> None:
        with contextlib.suppress(Exception), self._lock:
            self._protocol.send_close(code, reason)
            self._flush()

    def cut(self) -> None:
        self._connection.shutdown(socket.SHUT_RDWR)

    def messages(self) -> Iterable[bytes]:
        """Until the other side is done. A frame that is not masked, or breaks another rule, is an end as well."""
        while data := self._connection.recv(65536):
            with self._lock:
                self._protocol.receive_data(data)
                events = self._protocol.events_received()
                self._flush()
            for event in events:
                if isinstance(event, Frame) and event.opcode is Opcode.BINARY:
                    yield bytes(event.data)
                elif isinstance(event, Frame) and event.opcode is Opcode.CLOSE:
                    return

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._connection.sendall(data)


class _Hijacked:
    """An answer that takes the connection over and leaves nothing for the server to say."""

    def __init__(self, relay: Iap, path: str) -> None:
        self._relay, self._path = relay, path

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        try:
            self._relay.serve(self._path, environ)
        finally:
            with contextlib.suppress(OSError):
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionResetError


def _lets(rule: dict[str, Any], port: int, network: str, tags: set[str]) -> bool:
    """Whether the rule speaks of that at all, to allow or to deny it."""
    if rule.get("disabled") or rule.get("direction", "INGRESS") != "INGRESS":
        return False
    if str(rule.get("network", "")).rpartition("/")[2] != network:
        return False
    if rule.get("targetTags") and not tags & set(rule["targetTags"]):
        return False
    ranges = [ipaddress.ip_network(one) for one in rule.get("sourceRanges", ()) if ":" not in one]
    if not any(NETWORK.subnet_of(one) for one in ranges):
        return False
    return any(
        one.get("IPProtocol") in ("tcp", "all") and (not one.get("ports") or str(port) in one["ports"])
        for one in (*rule.get("allowed", ()), *rule.get("denied", ()))
    )
