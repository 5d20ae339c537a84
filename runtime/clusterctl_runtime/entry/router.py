"""Which target takes the next request of a service, and how many each has open.

A target that is taken out of its service gets nothing new from that moment; what it has open goes on, and is counted until the
last of it has ended.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any

from clusterctl_runtime.entry.checks import Checked
from clusterctl_runtime.entry.target import Target

HOLD_SECONDS = 5.0  # that a request waits for a target where none is well: one may be about to be


class Open(Checked):
    """A target as it is used."""

    def __init__(self, target: Target, changed: Callable[[], None]) -> None:
        self.open = 0
        super().__init__(target, changed)

    def state(self) -> dict[str, Any]:
        """As the head is told of it."""
        return {"open": self.open, "healthy": self.healthy, "why": self.why}


class Service:
    """The targets of one name. `changed` is told of each target of which something has changed."""

    def __init__(self, changed: Callable[[Open], None]) -> None:
        self._changed = changed
        self._targets: dict[str, Open] = {}
        self._leaving: dict[str, Open] = {}
        self._turn = 0
        self._news = asyncio.Event()
        self.tokens: Sequence[str] = ()  # sha256, in hex

    def use(self, targets: Sequence[Target], tokens: Sequence[str]) -> None:
        """These and no others, from now on."""
        wanted = {target.id: target for target in targets}
        for target_id in [t for t in self._targets if t not in wanted]:
            gone = self._targets.pop(target_id)
            gone.stop()
            if gone.open:
                self._leaving[target_id] = gone
            self._changed(gone)
        for target in targets:
            if target.id not in self._targets:
                self._targets[target.id] = self._made(target)
        self.tokens = tuple(tokens)
        self._tell()

    def _made(self, target: Target) -> Open:
        """One that comes back while it has something open goes on counting."""
        made = self._leaving.pop(target.id, None) or Open(target, lambda: self._noted(made))
        made.begin()
        return made

    def _noted(self, target: Open) -> None:
        self._changed(target)
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def is_let_in(self, token: str) -> bool:
        """Whether this is a token of the service."""
        digest = hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
        return any(hmac.compare_digest(digest, known) for known in self.tokens)

    def states(self) -> dict[str, dict[str, Any]]:
        """Of its targets, and of those that have left and have something open."""
        return {target_id: target.state() for target_id, target in {**self._leaving, **self._targets}.items()}

    async def take(self, tried: Collection[str]) -> Open | None:
        """The target of the next request, which counts as open there: the one with the fewest, in turn where several have as few.
        None where no other than those `tried` is well, also after a while."""
        deadline = asyncio.get_running_loop().time() + HOLD_SECONDS
        while True:
            found = self._next(tried)
            left = deadline - asyncio.get_running_loop().time()
            if found is not None or left <= 0 or not self._targets:
                break
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._news.wait(), left)
        if found is not None:
            found.open += 1
            self._changed(found)
        return found

    def _next(self, tried: Collection[str]) -> Open | None:
        well = [t for t in self._targets.values() if t.healthy and t.target.id not in tried]
        if not well:
            return None
        self._turn += 1
        fewest = min(t.open for t in well)
        idle = [t for t in well if t.open == fewest]
        return idle[self._turn % len(idle)]

    def give_back(self, target: Open) -> None:
        """A request that was taken there is over."""
        target.open -= 1
        if not target.open:
            self._leaving.pop(target.target.id, None)
        self._changed(target)
