"""Connections to ports of nodes: where to look for them, and what is said when there is none."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence

from clusterctl.client.nodes.kept import Kept
from clusterctl.core.errors import ClusterctlError
from clusterctl.provision.carried import NothingListens, Way

LOOPBACKS = ("127.0.0.1", "::1")


def hosts_of(address: str) -> list[str]:
    """Where on a node a program may listen, as seen on the node: its loopback first, then the node's own address."""
    return list(dict.fromkeys(host for host in (*LOOPBACKS, address) if host))


def nothing_listens(node: str, port: int) -> NothingListens:
    """Of a node that was looked at on all of its addresses."""
    return NothingListens(f"nothing takes connections on port {port} of {node}: is the program that should be running?")


def reach(login: Kept, port: int, hosts: Sequence[str], where: str) -> Way:
    """Through a login to `where`, which is made anew once when it does not serve. Raises NothingListens and ClusterctlError."""
    import paramiko

    connection = login.get()
    try:
        return connection.reach(port, hosts)
    except NothingListens:
        raise
    except (ClusterctlError, paramiko.SSHException, EOFError, OSError):
        connection = login.get(instead_of=connection)
    try:
        return connection.reach(port, hosts)
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise ClusterctlError(f"the connection to {where} broke: {error or type(error).__name__}") from error


class SocketWay:
    """A connection of this machine as a `Way`."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.recv, self.sendall = sock.recv, sock.sendall

    def shutdown_write(self) -> None:
        self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Wakes who waits in `recv`. Can be repeated."""
        with contextlib.suppress(OSError):  # it ended, or is closed already
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
