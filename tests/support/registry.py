"""A Docker registry on the loopback that serves one image, and can stop in the middle of a layer."""

from __future__ import annotations

import hashlib
import io
import json
import mmap
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

DOCKER = "application/vnd.docker"
MANIFEST = f"{DOCKER}.distribution.manifest.v2+json"
PIECE = 1024 * 1024


class Registry:
    """`name` is what to pull. Its layers, the lowest first, are tar files or {path: (mode, content)}."""

    def __init__(self, *layers: Path | dict[str, tuple[int, bytes]]) -> None:
        self._blobs: dict[str, bytes | mmap.mmap] = {}
        plain = [_mapped(layer) if isinstance(layer, Path) else _layer(layer) for layer in layers]
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"]},
                "rootfs": {"type": "layers", "diff_ids": [_digest(layer) for layer in plain]},
            }
        ).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._add(config, f"{DOCKER}.container.image.v1+json"),
            "layers": [self._add(layer, f"{DOCKER}.image.rootfs.diff.tar.gzip") for layer in plain],
        }
        self.manifest = json.dumps(manifest).encode()
        self.held, self.go_on = threading.Event(), threading.Event()
        self.broken = False
        self._hold = ""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.name = f"127.0.0.1:{self._server.server_address[1]}/clusterctl-test/pulled:1"

    def hold_in_layer(self, number: int) -> None:
        """Half of this layer is served; the rest waits for `go_on`, or never comes where the registry is `broken` by then."""
        self._hold = json.loads(self.manifest)["layers"][number]["digest"]

    def __enter__(self) -> Registry:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()

    def _add(self, blob: bytes | mmap.mmap, kind: str) -> dict[str, Any]:
        self._blobs[_digest(blob)] = blob
        return {"mediaType": kind, "size": len(blob), "digest": _digest(blob)}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                if self.path == "/v2/":
                    self._send(200, b"{}", "application/json")
                elif "/manifests/" in self.path and self.path.rpartition("/")[2] in ("1", _digest(registry.manifest)):
                    self._send(200, registry.manifest, MANIFEST)
                elif (digest := self.path.rpartition("/")[2]) in registry._blobs:
                    self._send(200, registry._blobs[digest], "application/octet-stream", digest == registry._hold)
                else:
                    said = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
                    self._send(404, json.dumps(said).encode(), "application/json")

            def _send(self, code: int, body: bytes | mmap.mmap, kind: str, hold: bool = False) -> None:
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Docker-Content-Digest", _digest(body))
                self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
                self.end_headers()
                if self.command == "HEAD":
                    return
                half = len(body) // 2 if hold else len(body)
                for start in range(0, half, PIECE):
                    self.wfile.write(body[start : min(start + PIECE, half)])
                if hold:
                    self.wfile.flush()
                    registry.held.set()
                    registry.go_on.wait(60)
                    if registry.broken:
                        self.close_connection = True
                        return
                    self.wfile.write(body[half:])

            def log_message(self, format: str, *args: Any) -> None:
                return

        return Handler


def _layer(files: dict[str, tuple[int, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, (mode, content) in files.items():
            entry = tarfile.TarInfo(path)
            entry.mode, entry.size = mode, len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _digest(data: bytes | mmap.mmap) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
