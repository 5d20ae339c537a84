"""What was made, or looked for, a moment ago: a cloud that does not know it is not to be believed yet."""

from __future__ import annotations

from collections.abc import Callable

from clusterctl_providers.cloud.listing import SETTLES


class Lately:
    """By kind of thing ("group", "key" ...). A cloud that says "no such thing" of what was made lately does not know it
    everywhere yet: the call is made again. Of what was looked for long ago it is right: somebody deleted it, and it is
    looked for anew."""

    def __init__(self, clock: Callable[[], float], seconds: float = SETTLES) -> None:
        self._clock, self._seconds = clock, seconds
        self._made: dict[str, float] = {}
        self._looked: dict[str, float] = {}

    def make(self, kind: str) -> None:
        """To be called once one was made."""
        self._made[kind] = self._clock()

    def look(self, kind: str) -> None:
        """To be called when one is looked for, found or not."""
        self._looked[kind] = self._clock()

    def is_made(self, kind: str) -> bool:
        """Whether a moment ago; never for a kind that is not ours to make."""
        return kind in self._made and self._clock() - self._made[kind] < self._seconds

    def is_worth_a_look(self, kind: str) -> bool:
        """Whether looking again may help: not where that was done a moment ago, nor where it was never done."""
        return kind in self._looked and self._clock() - self._looked[kind] >= self._seconds
