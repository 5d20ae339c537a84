"""One file per launch token: a lock while its container is made, and the mark that it has had its instance."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


class Tokens:
    """Below the cluster's state directory. A mark outlives the container, so that a late create makes no second one."""

    def __init__(self, state: Path) -> None:
        self._directory = state / "tokens"

    @contextlib.contextmanager
    def held(self, token: str) -> Iterator[None]:
        """One caller at a time, in this process and others; the lock goes when its holder dies."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._directory / token, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def mark_ended(self, token: str) -> None:
        """On disk before anything is ended. Waits for a create of the same token that is under way."""
        with self.held(token):
            (self._directory / token).write_text("ended")

    def has_ended(self, token: str) -> bool:
        try:
            return (self._directory / token).stat().st_size > 0
        except FileNotFoundError:
            return False
