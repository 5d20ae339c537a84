"""Runs where no port is forwarded (sshd with AllowTcpForwarding no, a container): carries bytes between a port there and its own
stdin and stdout. Standard library only; sent whole.

The first line that it reads is JSON: {"port", "hosts"}, addresses that are tried in turn. It answers with a line, which is empty
once it is connected, and else says why not. What comes to it has its length (4 bytes) before each piece; an empty piece ends that
direction. What goes back has none. It ends when the port has said all it had to say, and at once when its stdin does.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading

PIECE = 1 << 16
HEAD = 4
CONNECT_SECONDS = 30.0


def connected(port: int, hosts: list[str]) -> socket.socket:
    """To the first that takes it. Raises the OSError of the first that was asked."""
    first: OSError | None = None
    for host in hosts:
        try:
            there = socket.create_connection((host, port), CONNECT_SECONDS)
        except OSError as error:
            first = first or error
        else:
            there.settimeout(None)
            return there
    raise first or OSError("no address was given")


def write(data: bytes) -> None:
    """All of it, to stdout."""
    while data:
        data = data[os.write(1, data) :]


def back(there: socket.socket) -> None:
    """What the port says, to its end, upon which all of this ends."""
    try:
        while data := there.recv(PIECE):
            write(data)
    finally:
        os._exit(0)


def main() -> None:
    """Never returns where it got through."""
    source = sys.stdin.buffer
    wanted = json.loads(source.readline())
    try:
        there = connected(int(wanted["port"]), wanted["hosts"])
    except OSError as error:
        write(f"{error.strerror or error}\n".encode())
        return
    write(b"\n")
    threading.Thread(target=back, args=(there,), daemon=True).start()
    while len(head := source.read(HEAD)) == HEAD:
        size = int.from_bytes(head, "big")
        if size:
            there.sendall(source.read(size))
        else:
            there.shutdown(socket.SHUT_WR)
    os._exit(0)  # whoever wanted it is gone


if __name__ == "__main__":
    main()
