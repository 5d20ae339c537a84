"""What this machine keeps of a cluster's monitoring, in `$CLUSTERCTL_HOME/monitoring/NAME/` (0700):

token 0600       what a Prometheus shows at the gateway; it opens nothing else
ports.json       {"gateway", "prometheus"}: where both listened last, so that an address stays as it is
prometheus/      what a Prometheus that `monitoring up` starts is set up by, its data and its log
lock             held while one runs

It lies beside the clusters' directories, since `down` removes those and what was measured may be wanted afterwards.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from clusterctl_runtime.files.private import make_private_dir, write_private

from clusterctl.client.local_port import listening_socket
from clusterctl.client.registry import Cluster, read_note

GATEWAY, PROMETHEUS = "gateway", "prometheus"


@dataclass(frozen=True)
class Place:
    """One cluster's. Made with the first use."""

    cluster: Cluster

    @property
    def directory(self) -> Path:
        return make_private_dir(self.cluster.directory.parent.parent / "monitoring" / self.cluster.name)

    @property
    def prometheus(self) -> Path:
        return make_private_dir(self.directory / "prometheus")

    def token(self) -> str:
        """The same from the first call on: files that have it stay good whatever becomes of the cluster's own token."""
        path = self.directory / "token"
        if not path.exists() or not path.read_text().strip():
            write_private(path, secrets.token_urlsafe(32))
        return path.read_text().strip()

    def port(self, name: str, wanted: int = 0) -> int:
        """`wanted`, else the one of the last time, else one that is free; kept for the next time. Nobody listens on it yet."""
        kept = read_note(self._ports)
        port = wanted or int(kept.get(name) or 0) or _free_port()
        if kept.get(name) != port:
            write_private(self._ports, json.dumps({**kept, name: port}))
        return port

    @property
    def _ports(self) -> Path:
        return self.directory / "ports.json"


def _free_port() -> int:
    with listening_socket(0, "end some program that listens") as sock:
        return int(sock.getsockname()[1])
