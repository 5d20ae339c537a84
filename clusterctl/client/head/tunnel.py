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
import select
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from clusterctl_runtime.files.private import write_private

from clusterctl.client.nodes.machines import head_machine, open_hosts
from clusterctl.core.errors import ClusterctlError
from clusterctl.provision.ssh.connection import Connection, HostTrouble

IDLE_SECONDS = 3600.0
LOOK_SECONDS = 2.0
_PIECE = 1 << 16


class Tunnel:
    """`directory` is the cluster's on this machine."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._hosts = open_hosts(directory, lambda text: print(text, file=sys.stderr, flush=True))
        self._machine = head_machine(directory)
        self._connection: Connection | None = None
        self._port = 0  # of the head's API, on its machine
        self._here = 0
        self._said: tuple[str, int] = ("", 0)
        self._lock = threading.Lock()
        self._open = 0
        self._used = time.monotonic()

    def serve(self) -> None:
        """Forwards until the cluster's directory is gone, or nobody has used it for a while."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        listener.settimeout(LOOK_SECONDS)
        self._connect()
        self._here = listener.getsockname()[1]
        self._say({"port": self._here})
        while self._directory.exists() and (self._open or time.monotonic() - self._used < IDLE_SECONDS):
            try:
                client, _ = listener.accept()
            except TimeoutError:
                continue
            self._used = time.monotonic()
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _say(self, document: dict[str, Any]) -> None:
        with contextlib.suppress(FileNotFoundError):
            write_private(self._directory / "tunnel.json", json.dumps({"pid": os.getpid(), **document}))

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            self._open += 1
        try:
            channel = self._channel()
            if channel is not None:
                with contextlib.closing(channel):
                    _pipe(client, channel)
        finally:
            client.close()
            with self._lock:
                self._open -= 1
                self._used = time.monotonic()

    def _channel(self) -> Any:
        """A channel to the head's API; None when it cannot be had, which the client sees as a connection that was cut."""
        for fresh in (False, True):
            try:
                with self._lock:
                    if fresh or self._connection is None or not self._connection.transport.is_active():
                        self._connect()
                    if not self._port:
                        self._port = self._head_port()
                    connection, port = self._connection, self._port
                assert connection is not None
                channel = connection.reach(port)
                self._note("", port)
                return channel
            except Exception as error:  # paramiko raises many kinds; all of them mean: not now
                print(f"no way to the head: {error}", file=sys.stderr, flush=True)
                self._note(str(error) or type(error).__name__)
                self._port = 0
        return None

    def _note(self, trouble: str, head_port: int = 0) -> None:
        """Before the client's connection is cut: it looks here for the reason. And before the first byte gets through: the head
        has to prove that it listens on this port."""
        with self._lock:
            if (trouble, head_port) != self._said:
                self._said = (trouble, head_port)
                self._say({"port": self._here, "head_port": head_port, **({"trouble": trouble} if trouble else {})})

    def _connect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._hosts.connect(self._machine)

    def _head_port(self) -> int:
        assert self._connection is not None
        answer = self._connection.ask({"do": "wait_head", "seconds": 0})
        if "head" not in answer:
            raise HostTrouble("no_head", "no head runs on it")
        return int(answer["head"]["port"])


def _pipe(client: socket.socket, channel: Any) -> None:
    """Bytes both ways until both sides are done or one breaks."""
    sources = [client, channel]
    with contextlib.suppress(OSError, EOFError):
        while sources:
            ready, _, _ = select.select(sources, [], [])
            if client in ready:
                data = client.recv(_PIECE)
                if data:
                    channel.sendall(data)
                else:
                    channel.shutdown_write()
                    sources.remove(client)
            if channel in ready:
                data = channel.recv(_PIECE)
                if not data:
                    return
                client.sendall(data)


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
