"""Paths of this machine, seen from the directory where the spec will be."""

from __future__ import annotations

import os.path
from dataclasses import dataclass


@dataclass(frozen=True)
class Moved:
    """`source`, `target`: directories, of the file that is read and of the spec."""

    source: str
    target: str

    def here(self, path: str) -> str:
        """The same file or directory: absolute paths and those of a home stay."""
        if not path or path.startswith(("/", "~")):
            return path
        found = os.path.relpath(f"{self.source}/{path}", self.target)
        return found if found.startswith("..") else f"./{found}"
