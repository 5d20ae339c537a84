"""Log pieces on stdout: byte for byte into a file or pipe, harmless on a terminal, with the rank in front of a gang's lines."""

from __future__ import annotations

import base64
import codecs
import sys
import threading
import time
from typing import Any

from clusterctl.cli import output
from clusterctl.cli.render.escape import Escaper
from clusterctl.cli.render.ranks import Ranks
from clusterctl.client.submit.logs import End, Piece

LOOK_SECONDS = 0.25  # between two looks for lines that nobody ended


class LogPrinter:
    """`ranks`: put "[rank] " before each line. `as_json`: a JSON line per piece and one for the end."""

    def __init__(self, *, ranks: bool, as_json: bool) -> None:
        self._ranks = Ranks() if ranks else None
        self._json = as_json
        self._terminals: dict[tuple[int, int], _Harmless] | None = {} if sys.stdout.isatty() else None
        self._lock = threading.Lock()
        self._over = threading.Event()
        if ranks and not as_json:
            threading.Thread(target=self._show_overdue, daemon=True, name="lines without an end").start()

    def show(self, piece: Piece) -> None:
        """Prints it; on a terminal, and with ranks, an end that the next piece may go on with is held back."""
        if piece.cut:
            output.say(
                f"rank {piece.rank}'s lines are longer than what a tail shows: this begins inside one. Without --tail all of "
                "the log is shown"
            )
        if self._json:
            output.write_json_line(json_of(piece))
            return
        key, data = (piece.attempt, piece.rank), piece.data
        if self._terminals is not None:
            data = self._terminals.setdefault(key, _Harmless()).feed(data)
        self._write(key, data)

    def end(self, end: End | None) -> None:
        """Prints what was held back, and in JSON how it ended."""
        self._over.set()
        if self._json:
            if end:
                output.write_json_line({"end": True, "state": end.state, "exit_code": end.exit_code})
            return
        for key, terminal in (self._terminals or {}).items():
            self._write(key, terminal.rest())
        if self._ranks is not None:
            with self._lock:
                output.write_bytes(self._ranks.rest())

    def _write(self, key: tuple[int, int], data: bytes) -> None:
        with self._lock:
            output.write_bytes(data if self._ranks is None else self._ranks.feed(key, data, time.monotonic()))

    def _show_overdue(self) -> None:
        assert self._ranks is not None
        try:
            while not self._over.wait(LOOK_SECONDS):
                with self._lock:
                    if data := self._ranks.overdue(time.monotonic()):
                        output.write_bytes(data)
        except OSError:
            return  # nobody reads any more: the main thread hears of it, too


class _Harmless:
    """Bytes for a terminal: what is no text is shown as `\\xNN`, what commands a terminal is escaped."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="backslashreplace")
        self._escaper = Escaper()

    def feed(self, data: bytes) -> bytes:
        return self._escaper.feed(self._decoder.decode(data)).encode()

    def rest(self) -> bytes:
        return (self._escaper.feed(self._decoder.decode(b"", final=True)) + self._escaper.rest()).encode()


def json_of(piece: Piece) -> dict[str, Any]:
    """`data` as text; where that is not all, `base64` has the bytes."""
    body: dict[str, Any] = {"rank": piece.rank, "attempt": piece.attempt, "offset": piece.offset}
    try:
        return {**body, "data": piece.data.decode()}
    except UnicodeDecodeError:
        return {
            **body,
            "data": piece.data.decode(errors="replace"),
            "base64": base64.b64encode(piece.data).decode(),
        }
