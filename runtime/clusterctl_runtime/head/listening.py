"""Listening sockets: the same port after every start, so that open pages and agents find the head again."""

from __future__ import annotations

import socket

from clusterctl.core.errors import ClusterctlError


def listen(host: str, port: int, *, fall_back: bool = False) -> socket.socket:
    """A bound socket on `port`, or on any port when that one is taken and `fall_back` is set."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        return sock
    except OSError as error:
        sock.close()
        if port and fall_back:
            return listen(host, 0)
        raise ClusterctlError(
            f"the head could not listen on {host}:{port} ({error.strerror}): end the program that has this port "
            f"(`ss -ltnp 'sport = :{port}'` names it), then run `clusterctl up` again"
        ) from error
