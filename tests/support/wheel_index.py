"""A package index of this machine for tests: the wheels of engine environments, fetched from the real one once and kept.

It counts what is asked of it, and can damage or break off what it sends.
"""

from __future__ import annotations

import html
import threading
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from clusterctl_runtime.engine.found import read_engine_facts
from clusterctl_runtime.engine.wheelhouse import Wanted, Wheel, Wheelhouse, platform_of

from tests.support.docker_engine import cache_directory


def wanted(*extras: str, ray: str = "2.60.0", python: str = "", packages: tuple[str, ...] = ()) -> Wanted:
    """What a node like this machine is given; `python` where its minor version is another."""
    facts = read_engine_facts()
    return Wanted(ray, tuple(sorted({"default", *extras})), python or facts["python"], platform_of(facts), packages)


def kept_wheels(*wants: Wanted) -> tuple[Wheelhouse, list[Wheel]]:
    """The wheels of these, from the cache of the tests; what is missing there is fetched."""
    house = Wheelhouse(cache_directory() / "wheels")
    found = {wheel.sha256: wheel for want in wants for wheel in house.get(want, lambda text: None)}
    return house, list(found.values())


@dataclass
class WheelIndex:
    """`asked` are the paths of all requests; `bytes_sent` what went out for wheels. `damage` are parts of file names that
    arrive with one byte changed, each once."""

    url: str
    house: Wheelhouse
    wheels: dict[str, Wheel]
    asked: list[str] = field(default_factory=list)
    bytes_sent: int = 0
    damage: list[str] = field(default_factory=list)

    @property
    def downloads(self) -> list[str]:
        """The wheels that were asked for."""
        return [path.rpartition("/")[2] for path in self.asked if path.endswith(".whl")]

    def page(self, project: str) -> str:
        files = [wheel for wheel in self.wheels.values() if _project(wheel.file) == project]
        links = [
            f'<a href="../../files/{html.escape(w.file)}#sha256={w.sha256}" data-core-metadata="true">{w.file}</a>'
            for w in files
        ]
        return f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>" if files else ""

    def metadata(self, file: str) -> bytes:
        with zipfile.ZipFile(self.house.path(self.wheels[file].sha256)) as archive:
            name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA") and n.count("/") == 1)
            return archive.read(name)

    def body(self, file: str) -> bytes:
        data = self.house.path(self.wheels[file].sha256).read_bytes()
        for part in self.damage:
            if part in file:
                self.damage.remove(part)
                return data[:-1] + bytes([data[-1] ^ 1])
        return data


@contextmanager
def serving(house: Wheelhouse, wheels: Iterable[Wheel]) -> Iterator[WheelIndex]:
    index = WheelIndex("", house, {wheel.file: wheel for wheel in wheels})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.command == "GET":
                index.asked.append(self.path)
            parts = self.path.strip("/").split("/")
            data = b""
            if parts[0] == "simple" and len(parts) == 2:
                data = index.page(parts[1]).encode()
            elif parts[0] == "files" and parts[1].removesuffix(".metadata") in index.wheels:
                file = parts[1].removesuffix(".metadata")
                data = index.metadata(file) if file != parts[1] else index.body(file)
                index.bytes_sent += len(data) if self.command == "GET" else 0
            self.send_response(200 if data else 404)
            self.send_header("Content-Type", "text/html" if parts[0] == "simple" else "application/octet-stream")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    index.url = f"http://127.0.0.1:{server.server_address[1]}/simple"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()


def _project(file: str) -> str:
    return file.partition("-")[0].lower().replace("_", "-").replace(".", "-")
