"""`python -m clusterctl.client.head.tunnel DIR`: a port of 127.0.0.1 that leads through SSH to the head of a cluster.

Started by whichever command needs it first and shared by all of this user's commands, since a connection of their own
would cost each of them half a second. It ends by itself when nobody used it for an hour, or when the cluster is forgotten.
Says where it listens in `DIR/tunnel.json`: {"pid", "port"} or {"pid", "error"}; beside "port", "head_port" is the head's own on
its machine, and "trouble" says why the last try to get through failed.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from clusterctl_runtime.files.private import write_private

from clusterctl.client.local_port import LocalPort, until_unused
from clusterctl.client.nodes.kept import Kept
from clusterctl.client.nodes.machines import head_machine, open_hosts
from clusterctl.core.errors import ClusterctlError
from clusterctl.provision.carried import NothingListens, Way
from clusterctl.provision.ssh.connection import Connection, HostTrouble

IDLE_SECONDS = 3600.0


class Tunnel:
    """`directory` is the cluster's on this machine."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._hosts = open_hosts(directory, lambda text: print(text, file=sys.stderr, flush=True))
        self._machine = head_machine(directory)
        self._login = Kept(lambda: self._hosts.connect(self._machine))
        self._port = 0  # of the head's API, on its machine
        self._here = 0
        self._said: tuple[str, int] = ("", 0)
        self._lock = threading.Lock()

    def serve(self) -> None:
        """Forwards until the cluster's directory is gone, or nobody has used it for a while."""
        port = LocalPort(self._way)
        self._login.get()
        self._here = port.number
        self._say({"port": self._here})
        port.begin()
        until_unused([port], IDLE_SECONDS, self._directory.exists)

    def _say(self, document: dict[str, Any]) -> None:
        with contextlib.suppress(FileNotFoundError):
            write_private(self._directory / "tunnel.json", json.dumps({"pid": os.getpid(), **document}))

    def _way(self) -> Way | None:
        """A way to the head's API; None when it cannot be had, which the client sees as a connection that was cut."""
        broken: Connection | None = None
        for _ in range(2):
            connection: Connection | None = None
            try:
                connection = self._login.get(instead_of=broken)
                with self._lock:
                    port = self._port = self._port or _head_port(connection)
                way = connection.reach(port)
                self._note("", port)
                return way
            except Exception as error:  # paramiko raises many kinds; all of them mean: not now
                print(f"no way to the head: {error}", file=sys.stderr, flush=True)
                self._note(str(error) or type(error).__name__)
                self._port = 0
                broken = None if isinstance(error, NothingListens) else connection  # others may be using it
        return None

    def _note(self, trouble: str, head_port: int = 0) -> None:
        """Before the client's connection is cut: it looks here for the reason. And before the first byte gets through: the head
        has to prove that it listens on this port."""
        with self._lock:
            if (trouble, head_port) != self._said:
                self._said = (trouble, head_port)
                self._say({"port": self._here, "head_port": head_port, **({"trouble": trouble} if trouble else {})})


def _head_port(connection: Connection) -> int:
    answer = connection.ask({"do": "wait_head", "seconds": 0})
    if "head" not in answer:
        raise HostTrouble("no_head", "no head runs on it")
    return int(answer["head"]["port"])


def main() -> int:
    """The process' main function; returns its exit code."""
    directory = Path(sys.argv[1])
    os.umask(0o077)
    tunnel = Tunnel(directory)
    try:
        tunnel.serve()
        return 0
    except ClusterctlError as error:
        tunnel._say({"error": str(error)})
        return 1
    finally:
        path = directory / "tunnel.json"
        with contextlib.suppress(OSError, ValueError):
            document = json.loads(path.read_text())
            if document.get("pid") == os.getpid() and "error" not in document:
                path.unlink()


if __name__ == "__main__":
    sys.exit(main())
