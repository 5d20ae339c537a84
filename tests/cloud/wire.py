"""What a pretended cloud does on the wire, whatever it speaks: it listens where it is told to, and answers late, in half, or
not at all."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import Any

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from tests.cloud.world import Fault, World

App = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Broken(Exception):
    """The line is cut: no answer at all."""


class Half:
    """An answer that breaks off, though its head says that all is well."""

    def __init__(self, whole: App) -> None:
        self._whole = whole

    def __call__(self, environ: Any, start: Any) -> Iterable[bytes]:
        def begin(status: str, headers: Any, *_: Any) -> None:
            start(status, [h for h in headers if h[0].lower() != "content-length"])

        text = b"".join(self._whole(environ, begin))
        return [text[: len(text) // 2]]


def misbehave(fault: Fault, carry_out: Callable[[], None], refusal: Callable[[Fault], Exception]) -> None:
    """Raises what comes instead of an answer; returns where the answer is only late. `carry_out` does what was asked for, and
    `refusal` is the cloud's own word. An answer that is garbled is `Half` of what would have come."""
    if fault.seconds:
        time.sleep(fault.seconds)
    if fault.effect == "delay":
        return
    if fault.effect in ("lost", "reset"):
        carry_out()
    if fault.effect in ("cut", "reset"):
        raise Broken
    raise refusal(fault)


def hang_up(environ: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)


class Listeners:
    """An application at as many addresses of this host as are wanted. It tells the time by the world's clock offset."""

    def __init__(self, app: App, world: World, name: str, tls: ssl.SSLContext | None = None) -> None:
        self._app, self._name, self._tls = app, name, tls
        self._servers: list[tuple[BaseWSGIServer, threading.Thread]] = []

        class Quiet(WSGIRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else the body of an answer waits 40 ms for its head to be acknowledged

            def log(self, *_: Any) -> None:
                return

            def date_time_string(self, timestamp: float | None = None) -> str:
                return formatdate(timestamp or time.time() + world.clock_offset, usegmt=True)

        self._handler = Quiet

    def listen(self, address: str) -> str:
        """Returns the URL."""
        server = make_server(
            address, 0, self._app, threaded=True, request_handler=self._handler, ssl_context=self._tls
        )  # fmt: skip
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), name=self._name, daemon=True)
        thread.start()
        self._servers.append((server, thread))
        return f"{'https' if self._tls else 'http'}://{address}:{server.server_port}"

    def close(self) -> None:
        for server, thread in self._servers:
            server.shutdown()
            server.server_close()
            thread.join(60)
        self._servers.clear()
