"""The output of several ranks on one stream, line by line, so that ranks that write at once do not cut each other's lines.

A carriage return ends a line as a newline does: a progress bar shows where it is, and may never write a newline. What was
begun and is not gone on with for a while is shown as far as it is, and goes on behind that when no other rank wrote since.
"""

from __future__ import annotations

import re

HOLD_SECONDS = 1.0  # for which the beginning of a line waits for its end
LONGEST = 64 * 1024  # bytes of a line that are held at most
_END = re.compile(
    rb"\r\n|\n|\r"
)  # ends alone are looked for: a pattern of whole lines takes the square of a long one's time

Key = tuple[int, int]  # attempt, rank


class Ranks:
    """Invariant: `_open` is the rank whose line stands unfinished at the end of what was written, None where none does."""

    def __init__(self) -> None:
        self._held: dict[Key, bytes] = {}
        self._since: dict[Key, float] = {}  # when the first of `_held` came
        self._open: Key | None = None

    def feed(self, key: Key, data: bytes, now: float) -> bytes:
        """Takes what a rank wrote at `now`; returns what is to be written."""
        data = self._held.pop(key, b"") + data
        since = self._since.pop(key, now)
        written: list[bytes] = []
        at = 0
        end = len(data) - data.endswith(b"\r")  # the newline that belongs to it may come next
        for found in _END.finditer(data, 0, end):
            text, at = data[at : found.start()], found.end()
            if text or found[0] != b"\r" or self._open == key:  # a bar may begin with its return: no line before it
                written.append(self._line(key, text))
        if rest := data[at:]:
            if len(rest) > LONGEST:
                written.append(self._part(key, rest))
            else:
                self._held[key], self._since[key] = rest, since if not at else now
        return b"".join(written)

    def overdue(self, now: float) -> bytes:
        """What was begun HOLD_SECONDS ago and has no end yet."""
        due = [key for key, since in self._since.items() if now - since >= HOLD_SECONDS]
        return b"".join(self._take(key) for key in due)

    def rest(self) -> bytes:
        """Nothing more will come: all that is held, and the end of the last line."""
        written = [self._line(key, held.rstrip(b"\r")) for key, held in self._held.items() if held.rstrip(b"\r")]
        self._held.clear()
        self._since.clear()
        if self._open is not None:
            written.append(b"\n")
            self._open = None
        return b"".join(written)

    def _take(self, key: Key) -> bytes:
        held = self._held.pop(key)
        del self._since[key]
        if held.endswith(b"\r"):  # if a newline follows after all, an empty line too many is no harm
            return self._line(key, held[:-1]) if held != b"\r" or self._open == key else b""
        return self._part(key, held)

    def _line(self, key: Key, text: bytes) -> bytes:
        data = self._part(key, text) + b"\n"
        self._open = None
        return data

    def _part(self, key: Key, text: bytes) -> bytes:
        if self._open == key:
            return text
        before = b"\n" if self._open is not None else b""
        self._open = key
        return before + b"[%d] " % key[1] + text
