"""Ports of 127.0.0.1 whose connections lead somewhere else, each through a way of its own."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Sequence

from clusterctl.client.pump import pump
from clusterctl.core.errors import ClusterctlError
from clusterctl.provision.carried import Way

BREATH_SECONDS = 0.2  # where this process may open no more files: until others have been closed
LOOK_SECONDS = 2.0


def listening_socket(port: int, otherwise: str) -> socket.socket:
    """Bound to 127.0.0.1; port 0 is any free one. Raises ClusterctlError where the port is taken, which says `otherwise`."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what ended a moment ago is in nobody's way
        sock.bind(("127.0.0.1", port))
        sock.listen(64)  # before the address is told to anyone
    except OSError as error:
        sock.close()
        raise ClusterctlError(f"cannot listen on 127.0.0.1:{port} ({error.strerror}): {otherwise}") from error
    return sock


class LocalPort:
    """Listens from now on, and serves once it is begun. `dial` gives the way of each connection, in a thread of its own; None is
    one that is cut."""

    def __init__(self, dial: Callable[[], Way | None], port: int = 0, otherwise: str = "choose another") -> None:
        """Raises ClusterctlError where the port cannot be had."""
        self._dial, self._listener = dial, listening_socket(port, otherwise)
        self._lock = threading.Lock()
        self._open, self._used = 0, time.monotonic()

    @property
    def number(self) -> int:
        return int(self._listener.getsockname()[1])

    def unused(self) -> float:
        """Seconds since the last connection ended; 0 while there is one."""
        with self._lock:
            return 0.0 if self._open else time.monotonic() - self._used

    def begin(self) -> None:
        """Returns at once."""
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Listens no more. Connections that are open end with the process."""
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                if self._listener.fileno() < 0:
                    return
                time.sleep(BREATH_SECONDS)
                continue
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with self._lock:
            self._open += 1
        try:
            with contextlib.closing(client):
                way = self._dial()
                if way is not None:
                    pump(client, way)
        finally:
            with self._lock:
                self._open -= 1
                self._used = time.monotonic()


def until_unused(ports: Sequence[LocalPort], seconds: float, goes_on: Callable[[], bool]) -> None:
    """Returns when nobody has used any of them for so long, or `goes_on` says no."""
    while goes_on() and min(port.unused() for port in ports) < seconds:
        time.sleep(LOOK_SECONDS)
