"""A metadata service for many machines at once: who asks is known by the address. How it is spoken to is the cloud's."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

Facts = Mapping[str, str]


class Answer(NamedTuple):
    status: int
    text: str = ""
    headers: Mapping[str, str] = {}


BODY = "(body)"  # what was sent along with a POST, as a fact
# (method, path with its query, headers, facts of the machine that asks) -> answer
Dialect = Callable[[str, str, Mapping[str, str], Facts], Answer]


class MetadataServer:
    """`facts_of(address)` gives the facts of the machine that asks, or None for a stranger, who is told nothing."""

    def __init__(
        self, address: str, facts_of: Callable[[str], Facts | None], dialect: Dialect, port: int = 80, device: str = ""
    ) -> None:
        """`device`: only what comes in by that network device is heard, so that the address may be on several."""
        self.asked: list[tuple[str, str]] = []  # (address, path), of what was read
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                self._answer()

            def do_GET(self) -> None:
                asked.append((self.client_address[0], self.path))
                self._answer()

            def _answer(self) -> None:
                facts = facts_of(self.client_address[0]) or {}
                if self.command == "POST":
                    sent = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                    facts = {**facts, BODY: sent}
                answer = dialect(self.command, self.path, self.headers, facts)
                body = answer.text.encode()
                self.send_response(answer.status)
                self.send_header("Content-Length", str(len(body)))
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(OSError):  # who asked may have ended meanwhile
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                return

        self._server = _Server((address, port), Handler, bind_and_activate=False)
        if device:
            self._server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        self._server.server_bind()
        self._server.server_activate()
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="metadata", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(60)


class _Server(ThreadingHTTPServer):
    request_queue_size = 256  # a whole launch asks at once
