"""One file per launch token: a lock while its container is made, and the mark that it has had its instance."""

from __future__ import annotations

import contextlib
from pathlib import Path

from clusterctl_providers.file_lock import exclusive


class Tokens:
    """Below the cluster's state directory. A mark outlives the container, so that a late create makes no second one."""

    def __init__(self, state: Path) -> None:
        self._directory = state / "tokens"

    def held(self, token: str) -> contextlib.AbstractContextManager[None]:
        """One caller at a time, in this process and others."""
        return exclusive(self._directory / token)

    def mark_ended(self, token: str) -> None:
        """On disk before anything is ended. Waits for a create of the same token that is under way."""
        with self.held(token):
            (self._directory / token).write_text("ended")

    def has_ended(self, token: str) -> bool:
        try:
            return (self._directory / token).stat().st_size > 0
        except FileNotFoundError:
            return False
