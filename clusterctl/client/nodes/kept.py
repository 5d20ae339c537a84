"""One login to a machine that is used by many and made anew when it has broken."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clusterctl.provision.ssh.connection import Connection


class Kept:
    """`connect` makes the login, and raises ClusterctlError. For use by several threads."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect, self._lock = connect, threading.Lock()
        self._connection: Connection | None = None

    def get(self, instead_of: Connection | None = None) -> Connection:
        """The one there is, or another where that has ended, or is `instead_of`: one that did not serve."""
        with self._lock:
            kept = self._connection
            if kept is None or kept is instead_of or not kept.transport.is_active():
                self._drop()
                self._connection = kept = self._connect()
            return kept

    def close(self) -> None:
        """The next `get` logs in again."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        dropped, self._connection = self._connection, None
        if dropped is not None:
            dropped.close()
