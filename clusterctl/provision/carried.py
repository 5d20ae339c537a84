"""A way to a port where none is forwarded: a program on the spot (`ssh/programs/port.py`) carries the bytes."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import Protocol

from clusterctl.core.errors import ClusterctlError

HEAD = 4  # bytes before each piece that is sent: its length
_LONGEST_LINE = 4096


class NothingListens(ClusterctlError):
    """The node was reached, and nothing took the connection on that port."""


class Way(Protocol):
    """A connection to a port somewhere else. `recv` gives b"" at the end; whatever breaks raises OSError or EOFError."""

    def recv(self, size: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> None: ...
    def shutdown_write(self) -> None: ...
    def close(self) -> None: ...


class Channel(Protocol):
    """The program's input and output."""

    def recv(self, size: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> None: ...
    def close(self) -> None: ...


class Carried:
    """A `Way` through a program that has begun and is read by nobody else. Closes the channel if it raises."""

    def __init__(self, channel: Channel, port: int, hosts: Sequence[str]) -> None:
        """Raises NothingListens with what the system there said, and what the channel raises."""
        self._channel, self._closed = channel, threading.Lock()
        try:
            channel.sendall(json.dumps({"port": port, "hosts": list(hosts)}).encode() + b"\n")
            refusal = line_of(channel)
        except BaseException:
            self.close()
            raise
        if refusal:
            self.close()
            raise NothingListens(f"nothing answers on port {port} ({refusal})")

    def recv(self, size: int, /) -> bytes:
        """b"" at the end."""
        return self._channel.recv(size)

    def sendall(self, data: bytes, /) -> None:
        """Returns when all of it is on its way."""
        if data:
            self._channel.sendall(len(data).to_bytes(HEAD, "big") + data)

    def shutdown_write(self) -> None:
        """The far side sees that no more comes."""
        self._channel.sendall(bytes(HEAD))

    def close(self) -> None:
        """Can be repeated, and called by several threads."""
        if self._closed.acquire(blocking=False):
            self._channel.close()


def line_of(channel: Channel) -> str:
    """The next line that a program says. Byte by byte: what follows belongs to somebody else. Raises EOFError."""
    line = b""
    while not line.endswith(b"\n"):
        piece = channel.recv(1)
        if not piece or len(line) > _LONGEST_LINE:
            raise EOFError("what should carry the bytes there ended")
        line += piece
    return line.decode(errors="replace").strip()
