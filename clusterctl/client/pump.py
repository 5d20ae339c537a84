"""Bytes both ways between a local connection and a way to somewhere else."""

from __future__ import annotations

import contextlib
import socket
import threading

from clusterctl.provision.carried import Way

PIECE = 1 << 16


def pump(client: socket.socket, way: Way) -> None:
    """Until the far side has said all it had to say, or one of the two breaks; then both are closed. When the client has ended
    its direction the far side is told, and what it still says gets through."""
    sender = threading.Thread(target=_send, args=(client, way), daemon=True)
    sender.start()
    try:
        with contextlib.suppress(OSError, EOFError):
            while data := way.recv(PIECE):
                client.sendall(data)
    finally:
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)  # wakes the other thread
        way.close()
        sender.join()
        client.close()


def _send(client: socket.socket, way: Way) -> None:
    try:
        while data := client.recv(PIECE):
            way.sendall(data)
        way.shutdown_write()
    except (OSError, EOFError):
        way.close()
