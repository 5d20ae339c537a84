"""`python -m clusterctl.client.ray.ways DIR`: ports of 127.0.0.1 that lead to the servers of a cluster's Ray: its GCS, its
dashboard (with the Jobs and the state API), and a server for `ray://`, which is started when somebody first asks for it.

Started by `clusterctl env` and shared by all of this user's shells. The ports stay the same from one start to the next where
they are free, so that a shell which has them goes on working. It ends by itself when nobody used it for twelve hours, or when
the cluster is forgotten. Says where it listens in `DIR/ray.json`: {"pid", "ports": {"gcs", "dashboard", "client"}}, and what goes
wrong in `DIR/ray.log`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from clusterctl_runtime.files.private import write_private

from clusterctl.client.head.api import Api
from clusterctl.client.local_port import LocalPort, until_unused
from clusterctl.client.nodes.forwarding import Route
from clusterctl.client.ray.client_server import ClientServer
from clusterctl.client.registry import Cluster, Registry, read_note
from clusterctl.core.errors import ClusterctlError
from clusterctl.provision.carried import Way

IDLE_SECONDS = 12 * 3600.0
FILE = "ray.json"
NAMES = ("gcs", "dashboard", "client")


class Ways:
    """Of one cluster. Where Ray's servers listen is asked of the head again when one does not answer there."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster, self._lock = cluster, threading.Lock()
        self._routes: dict[str, Route] = {}
        self._client = ClientServer(cluster, self._log)

    def serve(self) -> None:
        """Until the cluster's directory is gone, or nobody has used it for a while."""
        before = read_note(self._cluster.directory / "ray.ports")
        dials: dict[str, Callable[[], Way | None]] = {
            "gcs": lambda: self._dial("gcs"),
            "dashboard": lambda: self._dial("dashboard"),
            "client": self._dial_client,
        }
        ports = {name: _port(dials[name], int(before.get(name) or 0)) for name in NAMES}
        numbers = {name: port.number for name, port in ports.items()}
        write_private(self._cluster.directory / "ray.ports", json.dumps(numbers))
        write_private(self._cluster.directory / FILE, json.dumps({"pid": os.getpid(), "ports": numbers}))
        for port in ports.values():
            port.begin()
        try:
            until_unused([*ports.values()], IDLE_SECONDS, self._cluster.directory.exists)
        finally:
            self._client.end()

    def _dial(self, name: str) -> Way | None:
        try:
            with Api.of(self._cluster) as api:
                access = api.get("/api/v1/engine/access")
            return self._route(str(access["node"])).dial(int(str(access[name]).rpartition(":")[2]))
        except ClusterctlError as error:
            self._log(str(error))
            return None

    def _dial_client(self) -> Way | None:
        try:
            node, port = self._client.ensure()
            return self._route(node).dial(port)
        except ClusterctlError as error:
            self._log(str(error))
            return None

    def _route(self, node: str) -> Route:
        with self._lock:
            if node not in self._routes:
                self._routes = {node: Route(self._cluster, node, self._log)}
            return self._routes[node]

    def _log(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def _port(dial: Callable[[], Way | None], wanted: int) -> LocalPort:
    """The one of the last time where it is free."""
    try:
        return LocalPort(dial, wanted)
    except ClusterctlError:
        return LocalPort(dial)


def main() -> int:
    """The process' main function; returns its exit code."""
    directory = Path(sys.argv[1])
    os.umask(0o077)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # in order: the server for ray:// goes, too
    cluster = Registry(directory.parent.parent).load(directory.name)
    try:
        Ways(cluster).serve()
        return 0
    finally:
        if read_note(directory / FILE).get("pid") == os.getpid():
            (directory / FILE).unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
