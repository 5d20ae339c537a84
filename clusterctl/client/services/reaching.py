"""How programs here reach a service: at the entry on the head's machine, or through a port of this machine that leads there."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

from clusterctl.client.head.api import Api
from clusterctl.client.nodes.forwarding import Route
from clusterctl.client.nodes.ports import SocketWay
from clusterctl.client.registry import Cluster
from clusterctl.core.errors import ClusterctlError
from clusterctl.provision.carried import Way


class EntryWays:
    """Connections to the entry that are of one service from their first byte on: who uses one needs no token, and finds the
    service at `/`. For several threads. `tell` says what is wrong."""

    def __init__(self, cluster: Cluster, name: str, tell: Callable[[str], None]) -> None:
        """Raises ClusterctlError where there is no such service, or no way to the head's machine."""
        self._cluster, self._name, self._tell = cluster, name, tell
        self._route = Route(cluster, "", tell) if cluster.head_is_remote else None
        self._find()

    def _find(self) -> None:
        with Api.of(self._cluster) as api:
            document = api.get(f"/api/v1/services/{self._name}")
            token = api.get(f"/api/v1/services/{self._name}/token")["token"]
        self._port = document["entry_port"]
        self._preamble = f"CLUSTERCTL {self._name} {token}\n".encode()

    def dial(self) -> Way | None:
        """None where there is none, which is told."""
        try:
            return self._dial()
        except (ClusterctlError, OSError):
            pass  # the entry may listen elsewhere by now
        try:
            self._find()
            return self._dial()
        except (ClusterctlError, OSError) as error:
            self._tell(f"service {self._name} is not reached: {error}")
            return None

    def _dial(self) -> Way:
        if not self._port:
            raise ClusterctlError("its entry does not listen yet: try again in a moment")
        if self._route is None:
            way: Way | None = SocketWay(socket.create_connection(("127.0.0.1", self._port)))
        else:
            way = self._route.dial(self._port)
        if way is None:
            raise ClusterctlError("there is no way to the head's machine")
        with contextlib.ExitStack() as undo:
            undo.callback(way.close)
            way.sendall(self._preamble)
            undo.pop_all()
        return way
