"""When to call a provider again about a launch or an end that has no clear outcome yet. In memory: after a crash at once."""

from __future__ import annotations

import zlib

from clusterctl_runtime.backoff import pause_after

FIRST_RETRY = 2.0  # seconds after an unknown outcome; doubles up to LONGEST_RETRY
LONGEST_RETRY = 60.0
SPREAD = 0.25  # each pause is longer by up to this share, by its key: what failed together does not come back together


class Retries:
    """By launch token or instance id."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}
        self._tries: dict[str, int] = {}  # calls without a clear outcome so far

    def at(self, key: str) -> float:
        """0.0: now."""
        return self._at.get(key, 0.0)

    def wait_until(self, key: str, at: float) -> None:
        """The provider said when."""
        self._at[key] = at

    def wait_longer(self, key: str, now: float) -> None:
        """The next try comes after a pause that doubles with each."""
        tries = self._tries[key] = self._tries.get(key, 0) + 1
        pause = pause_after(tries, FIRST_RETRY, LONGEST_RETRY)
        self._at[key] = now + pause * (1.0 + SPREAD * zlib.crc32(key.encode()) / 2**32)

    def settled(self, key: str) -> None:
        """It worked, or nobody wants it any more: the pauses begin anew."""
        self._at.pop(key, None)
        self._tries.pop(key, None)
