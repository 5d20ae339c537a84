"""What a command on a node left."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Ran:
    node: str
    code: int
    stdout: str
    stderr: str
