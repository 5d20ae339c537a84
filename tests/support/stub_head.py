"""A real HTTP server that answers as a head would, with answers that a test chooses, and can be ended and started again."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from clusterctl_runtime.head.clock import start_ticks

from clusterctl.client.registry import Cluster, Registry
from clusterctl.proof import proof_of

Answer = tuple[int, Any]


class Asked:
    """One request as it came."""

    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        url = urlsplit(target)
        self.method, self.path, self.headers, self.body = method, url.path, headers, body
        self.query = {key: values[0] for key, values in parse_qs(url.query).items()}

    def json(self) -> Any:
        return json.loads(self.body)


class Stream:
    """An NDJSON answer. After the lines: `cut` breaks the connection off, else the stream ends as it should."""

    def __init__(self, lines: Iterable[Any], *, cut: bool = False) -> None:
        self.lines, self.cut = lines, cut


class StubHead:
    """`on(method, path, answer)`: answer is (status, document), a Stream, or a function of Asked that gives one; a path may end
    in "/*". A challenge is answered as a head does, and not counted among what was `asked`; a stub that is no head has no
    `token`."""

    def __init__(self, registry: Registry, name: str = "demo") -> None:
        self.asked: list[Asked] = []
        self.token = "secret-token"
        self._answers: dict[tuple[str, str], Any] = {}
        self._server: ThreadingHTTPServer | None = None
        self.cluster: Cluster = registry.create(name, provider="local", engine="none", spec_path="cluster.yaml")
        (self.cluster.client_file).write_text(json.dumps({"url": "", "token": self.token}))
        self.on("GET", "/healthz", (200, {"ok": True, "uid": self.cluster.uid, "version": "0"}))

    def on(self, method: str, path: str, answer: Any) -> None:
        self._answers[method, path] = answer

    def start(self, port: int = 0) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        head = {"pid": os.getpid(), "start_ticks": start_ticks(), "port": self.port, "started": 0, "version": "0"}
        write_whole(self.cluster.head_dir / "head.json", json.dumps(head))

    def stop(self) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.server_address[1])

    def proof(self, challenge: str) -> str:
        return proof_of(hashlib.sha256(self.token.encode()).hexdigest(), challenge, self.port)

    def paths(self) -> list[str]:
        return [f"{asked.method} {asked.path}" for asked in self.asked]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                asked = Asked(self.command, self.path, dict(self.headers), self.rfile.read(length))
                if asked.path == "/healthz" and stub.token and "challenge" in asked.query:
                    self.document(200, {"proof": stub.proof(asked.query["challenge"])})
                    return
                stub.asked.append(asked)
                found = stub._answers.get((asked.method, asked.path))
                if found is None:
                    found = stub._answers.get((asked.method, f"{asked.path.rpartition('/')[0]}/*"))
                if isinstance(found, Callable):  # type: ignore[arg-type]
                    found = found(asked)
                if found is None:
                    found = (404, {"error": {"code": "not_found", "message": f"no {asked.path}", "fix": ""}})
                if isinstance(found, Stream):
                    self.stream(found)
                else:
                    self.document(*found)

            def document(self, status: int, document: Any) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def stream(self, stream: Stream) -> None:
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for line in stream.lines:
                    data = (b"" if line is None else json.dumps(line).encode()) + b"\n"
                    self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                    self.wfile.flush()
                if stream.cut:
                    self.close_connection = True
                    self.connection.close()
                else:
                    self.wfile.write(b"0\r\n\r\n")

            def log_message(self, format: str, *args: Any) -> None:
                return

            do_GET = do_POST = do_PUT = do_HEAD = answer

        return Handler


def write_whole(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)
