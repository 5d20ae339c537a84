"""Where answers and progress go: one JSON document or a view of it to stdout, everything else to stderr."""

from __future__ import annotations

import codecs
import json
import os
import shutil
import sys
from typing import Any, TextIO

from clusterctl.cli.render.escape import escaped


def wants_colour(stream: TextIO) -> bool:
    """Colour and animation are for terminals whose user did not say no (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def rewrite_line(text: str = "") -> None:
    """On a terminal that stderr is, `text` in the place of the line that is being written, as much of it as fits."""
    print(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}", end="", file=sys.stderr, flush=True)


def width() -> int | None:
    """Columns of the terminal that stdout is, as it is at this moment; None for a file or a pipe, which takes lines of any
    length."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def write_json(document: Any) -> None:
    """One indented document."""
    write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def write_json_line(document: Any) -> None:
    """One line of a stream, out at once."""
    write(json.dumps(document, separators=(",", ":"), ensure_ascii=False) + "\n")


def write(text: str) -> None:
    """To stdout as it is, at once; what the encoding of the terminal lacks is replaced, never an error."""
    try:
        sys.stdout.write(text)
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding or "ascii"
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()


def write_bytes(data: bytes, stream: TextIO | None = None) -> None:
    """Bytes to stdout (or `stream`) as they are, at once; on a terminal that has another encoding than UTF-8 they are text in
    that one."""
    out: TextIO = sys.stdout if stream is None else stream
    encoding = out.encoding or "ascii"
    if out.isatty() and codecs.lookup(encoding).name != "utf-8":
        data = data.decode(errors="backslashreplace").encode(encoding, "backslashreplace")
    out.flush()  # what was written as text comes first
    out.buffer.write(data)
    out.buffer.flush()


def write_line(text: str) -> None:
    """A rendered view: what came from a program or a user in it cannot command the terminal."""
    write((text if not sys.stdout.isatty() else _escaped_but_painted(text)) + "\n")


def say(text: str) -> None:
    """A sentence of progress or failure, to stderr."""
    try:
        print(escaped(text) if sys.stderr.isatty() else text, file=sys.stderr, flush=True)
    except UnicodeEncodeError:
        print(text.encode("ascii", "backslashreplace").decode(), file=sys.stderr, flush=True)


PAINT = {"green": "\x1b[32m", "yellow": "\x1b[33m", "red": "\x1b[31m", "dim": "\x1b[2m", "bold": "\x1b[1m"}
_RESET = "\x1b[0m"
# Private marks stand for our own colours until the text has been escaped: nobody else's text can hold them afterwards.
_MARKS = {name: chr(0xF0000 + index) for index, name in enumerate(PAINT)}
_END = chr(0xF00FF)


def paint(text: str, colour: str) -> str:
    """Marks `text` for a colour, which only `write_line` on a colour terminal turns into one."""
    return f"{_MARKS[colour]}{text}{_END}" if colour and wants_colour(sys.stdout) else text


def _escaped_but_painted(text: str) -> str:
    text = escaped(text)
    for name, mark in _MARKS.items():
        text = text.replace(mark, PAINT[name])
    return text.replace(_END, _RESET)
