"""Log pieces on stdout: as they are into a file or pipe, harmless on a terminal, with the rank in front of a gang's lines."""

from __future__ import annotations

import sys

from clusterctl.cli import output
from clusterctl.cli.escape import Escaper
from clusterctl.client.logs import End, Piece


class LogPrinter:
    """`ranks`: put "[rank] " before each line. `as_json`: a JSON line per piece and one for the end."""

    def __init__(self, *, ranks: bool, as_json: bool) -> None:
        self._ranks = ranks
        self._json = as_json
        self._terminal = sys.stdout.isatty()
        self._escapers: dict[tuple[int, int], Escaper] = {}
        self._partial: dict[tuple[int, int], str] = {}

    def show(self, piece: Piece) -> None:
        if self._json:
            body = {"rank": piece.rank, "attempt": piece.attempt, "offset": piece.offset, "data": piece.text}
            output.write_json_line(body)
            return
        key, text = (piece.attempt, piece.rank), piece.text
        if self._terminal:
            text = self._escapers.setdefault(key, Escaper()).feed(text)
        output.write(self._prefixed(key, text) if self._ranks else text)

    def end(self, end: End | None) -> None:
        """Prints what was held back, and in JSON how it ended."""
        if self._json:
            if end:
                output.write_json_line({"end": True, "state": end.state, "exit_code": end.exit_code})
            return
        for key, escaper in self._escapers.items():
            rest = escaper.rest()
            output.write(self._prefixed(key, rest) if self._ranks else rest)
        for (_, rank), text in self._partial.items():
            if text:
                output.write(f"[{rank}] {text}\n")
        self._partial.clear()

    def _prefixed(self, key: tuple[int, int], text: str) -> str:
        """Whole lines only, so that ranks that write at once do not cut each other's lines."""
        text = self._partial.pop(key, "") + text
        *lines, self._partial[key] = text.split("\n")
        return "".join(f"[{key[1]}] {line}\n" for line in lines)
