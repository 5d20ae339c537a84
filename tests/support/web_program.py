"""Small HTTP servers, as a service's program is one, in threads of the test."""

from __future__ import annotations

import hashlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class WebProgram:
    """Answers `GET /` with its name, `/slow` when it is released, `/stream` piece by piece, `POST` with the digest of what
    it got, `/seen` with path and headers; upgrades to a protocol that says everything twice."""

    def __init__(self, name: str) -> None:
        self.name, self.released, self.waiting = name, threading.Event(), threading.Event()
        self.healthy = True
        self.paths: list[str] = []
        program = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                return

            def do_GET(self) -> None:
                program.paths.append(self.path)
                if self.headers.get("Upgrade") == "twice":
                    return self._twice()
                if self.path == "/ready":
                    return self._say(200 if program.healthy else 503, b"")
                if self.path == "/slow":
                    program.waiting.set()
                    program.released.wait(60)
                if self.path == "/stream":
                    return self._stream()
                if self.path.startswith("/seen"):
                    return self._say(200, f"{self.path}\n{self.headers}".encode())
                return self._say(200, program.name.encode())

            def do_POST(self) -> None:
                digest, left = hashlib.sha256(), int(self.headers["Content-Length"])
                while left and (piece := self.rfile.read(min(left, 65536))):
                    digest.update(piece)
                    left -= len(piece)
                self._say(200, digest.hexdigest().encode())

            def _say(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def _stream(self) -> None:
                self.send_response(200)
                self.send_header("Connection", "close")  # its end is the end of the answer
                self.end_headers()
                self.wfile.write(b"first\n")
                self.wfile.flush()
                program.released.wait(60)
                self.wfile.write(b"last\n")
                self.close_connection = True

            def _twice(self) -> None:
                self.send_response(101)
                self.send_header("Connection", "Upgrade")
                self.send_header("Upgrade", "twice")
                self.end_headers()
                while data := self.connection.recv(1000):
                    self.connection.sendall(data * 2)
                self.close_connection = True

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


class Load:
    """Requests one after the other from some threads, until it is ended: what each was answered with, or why it failed."""

    def __init__(self, ask: object, threads: int = 3) -> None:
        self.answers: list[str] = []
        self.failures: list[str] = []
        self._over = threading.Event()
        self._ask = ask
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self.answers.append(self._ask())  # type: ignore[operator]
            except Exception as error:
                self.failures.append(f"{time.time():.2f} {error!r}")
            self._over.wait(0.005)

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)
