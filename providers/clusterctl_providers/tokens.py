"""One file per launch token: a lock while its instance is made, and the mark that it has had its instance."""

from __future__ import annotations

from pathlib import Path

from clusterctl_runtime.files.lock import Lock, wait_for
from clusterctl_runtime.files.private import sync, sync_directory


class Tokens:
    """Below the cluster's state directory. A mark outlives the instance, so that a late create makes no second one."""

    def __init__(self, state: Path) -> None:
        self._directory = state / "tokens"

    def held(self, token: str) -> Lock:
        """One caller at a time, in this process and others."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        return wait_for(self._directory / token)

    def mark_ended(self, token: str) -> None:
        """On disk before anything is ended. Waits for a create of the same token that is under way."""
        with self.held(token):
            (self._directory / token).write_text("ended")  # in the file itself: others wait for the lock on it
            sync(self._directory / token)
            sync_directory(self._directory)

    def has_ended(self, token: str) -> bool:
        """Whether it is marked; while the token is held that stays so."""
        try:
            return (self._directory / token).stat().st_size > 0
        except FileNotFoundError:
            return False
