"""The two-way stream of a program in a container: its output by frames, its input as it comes.

docker-py reads such a stream from the bare socket: what came along with the answer's head is lost to it, and with TLS it waits
for bytes that have been decrypted already.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

STDERR = 2
_HEAD = 8  # bytes before each frame: the stream's number, three zeros, the size
_PIECE = 64 * 1024


class Stream:
    """`started` is what docker-py's `exec_start(socket=True)` gave."""

    def __init__(self, started: Any) -> None:
        self._file: Any = started._response.raw._fp.fp
        self._socket: Any = self._file.raw._sock
        self._socket.settimeout(0.0)  # it may be silent for as long as it likes: `select` waits
        self._buffer = b""
        self._unsent = memoryview(b"")

    def frames(
        self, stdin: int | None = None, at_end: Callable[[], None] = lambda: None
    ) -> Iterator[tuple[int, bytes]]:
        """(stream, bytes) until the program has ended. What `stdin` has is sent there; at its end `at_end` is called."""
        data = self._first()
        while data is not None:
            self._buffer += data
            yield from self._whole()
            if not data:
                stdin = self._wait(stdin, at_end)
            data = self._read()

    def _first(self) -> bytes:
        """What came with the head of the answer."""
        try:
            return self._file.read(len(self._file.peek()))
        except (BlockingIOError, ssl.SSLWantReadError):
            return b""

    def _read(self) -> bytes | None:
        """b"" when there is nothing yet, None at the end."""
        try:
            return self._socket.recv(_PIECE) or None
        except (BlockingIOError, ssl.SSLWantReadError):
            return b""
        except (ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return None

    def _whole(self) -> Iterator[tuple[int, bytes]]:
        while len(self._buffer) >= _HEAD:
            size = int.from_bytes(self._buffer[4:_HEAD], "big")
            if len(self._buffer) < _HEAD + size:
                return
            number, frame = self._buffer[0], self._buffer[_HEAD : _HEAD + size]
            self._buffer = self._buffer[_HEAD + size :]
            yield number, frame

    def _wait(self, stdin: int | None, at_end: Callable[[], None]) -> int | None:
        """Until there is something to read, or to send, which is sent. Returns where more may come from. What is sent waits for
        the far side, and reading for nobody: a program that answers before it has heard all is read meanwhile."""
        reading = [self._socket] if stdin is None or self._unsent else [self._socket, stdin]
        ready, writable, _ = select.select(reading, [self._socket] if self._unsent else [], [])
        if writable:
            self._send()
        if stdin is None or stdin not in ready:
            return stdin
        data = os.read(stdin, _PIECE)
        if not data:
            at_end()
            return None
        self._unsent = memoryview(data)
        self._send()
        return stdin

    def _send(self) -> None:
        """As much as goes now; what cannot be sent any more is dropped, since the end of the stream tells."""
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except (BrokenPipeError, ConnectionResetError):
            self._unsent = memoryview(b"")

    def close(self) -> None:
        """Ends the connection, and what runs there sees the end of its input. `frames` ends where another thread is in it."""
        self._socket.shutdown(socket.SHUT_RDWR)
