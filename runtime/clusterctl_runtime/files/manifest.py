"""A package is a zip archive, or a manifest: a list of archives that are unpacked into the same directory. What has not changed
is in the archives that it was in before, so that it is neither sent nor stored again.

A manifest is text: MARK, then a line `SHA-256 SIZE` for each archive. No zip archive begins with its mark.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MARK = b"clusterctl manifest 1\n"
MOST_ARCHIVES = 100_000
_LINE = re.compile(rb"([0-9a-f]{64}) ([0-9]{1,12})")
_LONGEST = len(MARK) + MOST_ARCHIVES * (64 + 1 + 12 + 1)


@dataclass(frozen=True)
class Archive:
    """`digest` is its SHA-256 in hex, `size` in bytes."""

    digest: str
    size: int


def manifest_of(archives: Sequence[Archive]) -> bytes:
    """The same archives in the same order give the same bytes."""
    return MARK + b"".join(f"{archive.digest} {archive.size}\n".encode() for archive in archives)


def read_manifest(path: Path) -> list[Archive] | None:
    """What is listed in this file; None where it is no manifest. Raises ValueError for one that is damaged or too long."""
    with path.open("rb") as file:
        if file.read(len(MARK)) != MARK:
            return None
        text = file.read(_LONGEST)
    matches = [_LINE.fullmatch(line) for line in text.splitlines()]
    if len(matches) > MOST_ARCHIVES or not text.endswith(b"\n"):
        raise ValueError(f"it has {len(matches)} lines, of at most {MOST_ARCHIVES}, or its last line is cut off")
    archives = [Archive(match[1].decode(), int(match[2])) for match in matches if match]
    if len(archives) < len(matches):
        raise ValueError("a line of it is not `SHA-256 SIZE`")
    return archives
