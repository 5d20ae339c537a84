"""A port of 127.0.0.1 at which a Prometheus finds the figures of one cluster, wherever its head and its nodes are by then.

GET /metrics     the head's own, of its API
GET /ray         which nodes have figures of Ray's own, as Prometheus' HTTP service discovery wants it
GET /ray/NODE    those of one node

The head listens on the loopback of its own machine, on a port that is another one after it was started again, and asks for a
token that may do everything. So whoever scrapes gets a token of its own that opens this port alone, and the way behind it is
looked for with each request: the head proves itself before it sees the cluster's token, as for every other command.
"""

from __future__ import annotations

import hmac
import http
import http.client
import io
import json
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from clusterctl.client.head.endpoint import Endpoint, connect, locate, why_text
from clusterctl.client.nodes.forwarding import Route
from clusterctl.client.registry import Cluster
from clusterctl.core.errors import ClusterctlError, NotFound
from clusterctl.provision.carried import Way

HEAD_PATH, RAY_PATH = "/metrics", "/ray"
SECONDS = 10.0  # for an answer: Prometheus gives up then, too
_PIECE = 1 << 16
_PASSED_ON = ("Accept", "Accept-Encoding", "User-Agent")
_PASSED_BACK = ("Content-Type", "Content-Encoding")


class NothingThere(NotFound):
    """The path leads nowhere."""


@dataclass(frozen=True)
class Answer:
    """A whole one: half of it would be taken for all."""

    status: int
    headers: dict[str, str]
    body: bytes


class Figures:
    """The way to the figures of one cluster. `tell` says to the user that there are none and that there are some again, once;
    `detail` the same of Ray's on a node: Prometheus shows these by itself, and a node that comes or goes has none for a while."""

    def __init__(self, cluster: Cluster, tell: Callable[[str], None], detail: Callable[[str], None]) -> None:
        self._cluster, self._tell, self._detail = cluster, tell, detail
        self._lock = threading.Lock()
        self._trouble = ""
        self._ports: dict[str, int] = {}  # of Ray's figures, by node
        self._routes: dict[str, Route] = {}

    def of_head(self, path: str, headers: Mapping[str, str]) -> Answer:
        """What the head says to a GET. Raises ClusterctlError."""
        try:
            endpoint = self._endpoint()
            with closing(connect(endpoint, self._cluster.name)) as connection:
                connection.request("GET", path, headers={**headers, "Authorization": f"Bearer {endpoint.token}"})
                answer = _read(connection.getresponse())
        except (OSError, http.client.HTTPException) as error:
            self._note(f"the head of cluster {self._cluster.name!r} gave no whole answer ({why_text(error)})")
            raise ClusterctlError(self._trouble) from error
        except ClusterctlError as error:
            self._note(str(error))
            raise
        self._note("")
        return answer

    def _endpoint(self) -> Endpoint:
        """Where the head is now, also of a cluster that was made again under the same name. Raises ClusterctlError."""
        if not self._cluster.directory.exists():
            raise NotFound(
                f"cluster {self._cluster.name!r} is not known here any more, as after `clusterctl down`: `clusterctl up SPEC` "
                "makes it again"
            )
        return locate(self._cluster)

    def ray_targets(self, address: str) -> list[dict[str, Any]]:
        """Nodes that have figures of Ray's, each at `address` with a path of its own. Raises ClusterctlError."""
        answer = self.of_head("/api/v1/engine/figures", {})
        if answer.status != http.HTTPStatus.OK:
            raise ClusterctlError(
                f"the head of cluster {self._cluster.name!r} does not say where Ray's figures are ({answer.status}): "
                "`clusterctl up` gives it this version of clusterctl"
            )
        nodes = json.loads(answer.body)["nodes"]
        with self._lock:
            self._ports = {str(node["node"]): int(node["port"]) for node in nodes}
            self._routes = {name: route for name, route in self._routes.items() if name in self._ports}
        return [
            {
                "targets": [address],
                "labels": {
                    "__metrics_path__": f"{RAY_PATH}/{node['node']}",
                    "instance": node["node"],
                    "node": node["node"],
                    "pool": node["pool"],
                },
            }
            for node in nodes
        ]

    def of_ray(self, node: str) -> Answer:
        """What Ray says on one node, which `ray_targets` has named. Raises ClusterctlError."""
        with self._lock:
            port, route = self._ports.get(node, 0), self._routes.get(node)
        if not port:
            raise NothingThere(f"{node} is no node with figures of Ray's at this moment")
        if route is None:
            made = Route(self._cluster, node, self._detail)
            with self._lock:
                route = self._routes.setdefault(node, made)
        way = route.dial(port)
        if way is None:
            raise ClusterctlError(f"Ray's figures on {node} cannot be reached")
        return _asked(way, node)

    def _note(self, trouble: str) -> None:
        with self._lock:
            before, self._trouble = self._trouble, trouble
        if trouble and not before:
            self._tell(f"no figures at this moment: {trouble}")
        elif before and not trouble:
            self._tell(f"the head of cluster {self._cluster.name!r} answers again")


def _asked(way: Way, node: str) -> Answer:
    """The answer to a GET through a way that is used for nothing else. Raises ClusterctlError."""
    patience = threading.Timer(SECONDS, way.close)
    patience.start()
    whole = io.BytesIO()
    try:
        way.sendall(f"GET {HEAD_PATH} HTTP/1.1\r\nHost: {node}\r\nConnection: close\r\n\r\n".encode())
        while data := way.recv(_PIECE):
            whole.write(data)
        whole.seek(0)
        answer = http.client.HTTPResponse(_Said(whole))  # pyright: ignore[reportArgumentType]
        answer.begin()
        return _read(answer)
    except (OSError, EOFError, http.client.HTTPException) as error:
        raise ClusterctlError(f"Ray on {node} gave no whole answer ({why_text(error)})") from error
    finally:
        patience.cancel()
        way.close()


class _Said:
    """As much of a socket as `http.client` reads an answer from."""

    def __init__(self, whole: io.BytesIO) -> None:
        self._whole = whole

    def makefile(self, mode: str) -> io.BytesIO:
        return self._whole


def _read(answer: http.client.HTTPResponse) -> Answer:
    found = {name: value for name in _PASSED_BACK if (value := answer.getheader(name))}
    return Answer(answer.status, found, answer.read())


class Gateway:
    """Listens from now on, and answers once it is begun. `token`: what a request has to show."""

    def __init__(self, figures: Figures, token: str, port: int, otherwise: str) -> None:
        """Raises ClusterctlError, which says `otherwise`, where the port cannot be had."""
        try:
            self._server = _Server(("127.0.0.1", port), _Request)
        except OSError as error:
            raise ClusterctlError(f"cannot listen on 127.0.0.1:{port} ({error.strerror}): {otherwise}") from error
        self._server.figures, self._server.token = figures, token

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def begin(self) -> None:
        """Returns at once."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Listens no more."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    figures: Figures
    token: str

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked is gone, or said what is no HTTP: nobody is told."""


class _Request(BaseHTTPRequestHandler):
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]
    timeout = SECONDS

    def do_GET(self) -> None:
        shown = self.headers.get("Authorization") or ""
        if not hmac.compare_digest(shown.encode("utf-8", "replace"), f"Bearer {self.server.token}".encode()):
            self._send(_sentence(401, "this port is for the Prometheus that has its token file"))
            return
        try:
            answer = self._answer(self.path.partition("?")[0])
        except (ClusterctlError, ValueError, KeyError) as error:
            answer = _sentence(404 if isinstance(error, NothingThere) else 502, str(error))
        self._send(answer)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def _answer(self, path: str) -> Answer:
        figures = self.server.figures
        node = path.removeprefix(f"{RAY_PATH}/")
        if path == HEAD_PATH:
            return figures.of_head(path, {name: self.headers[name] for name in _PASSED_ON if name in self.headers})
        if path == RAY_PATH:
            targets = figures.ray_targets(f"127.0.0.1:{self.server.server_address[1]}")
            return Answer(200, {"Content-Type": "application/json"}, json.dumps(targets).encode())
        if node == path:
            raise NothingThere(f"there is nothing at {path}")
        return figures.of_ray(node)

    def log_message(self, format: str, *args: Any) -> None:
        """What breaks is told by `Figures`."""


def _sentence(status: int, text: str) -> Answer:
    return Answer(status, {"Content-Type": "text/plain; charset=utf-8"}, f"{text}\n".encode())
