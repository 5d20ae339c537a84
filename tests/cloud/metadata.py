"""A metadata service in the manner of EC2's IMDSv2, for many machines at once: who asks is known by the address."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Facts = dict[str, str]


class MetadataServer:
    """`facts_of(address)` gives the facts of the machine that asks, or None for a stranger."""

    def __init__(self, address: str, facts_of: Callable[[str], Facts | None], port: int = 80, device: str = "") -> None:
        """`device`: only what comes in by that network device is heard, so that the address may be on several."""
        self.asked: list[tuple[str, str]] = []  # (address, path)
        tokens: set[str] = set()
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                if self.path != "/latest/api/token" or not self.headers.get("X-aws-ec2-metadata-token-ttl-seconds"):
                    return self._reply(400)
                tokens.add(token := secrets.token_urlsafe(16))
                return self._reply(200, token)

            def do_GET(self) -> None:
                facts = facts_of(self.client_address[0])
                asked.append((self.client_address[0], self.path))
                if self.headers.get("X-aws-ec2-metadata-token") not in tokens:
                    return self._reply(401)
                name = self.path.removeprefix("/latest/").removeprefix("meta-data/")
                text = (facts or {}).get(name, "")
                return self._reply(200, text) if text else self._reply(404)

            def _reply(self, status: int, text: str = "") -> None:
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
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
