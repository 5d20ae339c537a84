"""When this cluster ends itself: looks at what uses it, keeps what must outlive the head's process, and says when the time
has come.

`lifetime.json` has what was seen, and from the moment of the decision that the cluster ends: a head that is started again
goes on ending. It is woken by events, and looks now and then for what makes none.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

from clusterctl.core.lifetime import Lifetime, Outlook, Seen, Use, moment, note, outlook, tell, warns_at, why
from clusterctl_runtime.files.private import write_private
from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.storage.events import EventLog

log = logging.getLogger(__name__)

FILE = "lifetime.json"
ENDED_FILE = "ended.json"  # the cluster has ended itself: no head starts while it is there
REST = 0.2  # seconds between two looks at least, however much happens
LONGEST_PAUSE = 30.0
DISK_PAUSE = 1.0


@dataclass(frozen=True)
class Ending:
    """The decision: when it was made (unix seconds, wall clock), by which rule, and why, as a clause."""

    at: float
    rule: str
    text: str


class LifetimeWatch:
    """`use` looks at what uses the cluster, for these rules. `close` is called in the turn in which the end is decided."""

    def __init__(
        self,
        directory: Path,
        name: str,
        rules: Callable[[], Lifetime],
        use: Callable[[Lifetime], Use],
        close: Callable[[Ending], None],
        events: EventLog,
        *,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = steady_time,
    ) -> None:
        self._path, self._name = directory / FILE, name
        self._rules, self._use, self._close, self._events = rules, use, close, events
        self._wall, self._clock = wall, clock
        self.ending: Ending | None = None
        self.seen = Seen(since=clock())
        self._load()

    async def decided(self) -> Ending:
        """Returns when the cluster is to end, which is on disk by then."""
        while self.ending is None:
            last = self._events.last
            pause = await self.look()
            if self.ending is None:
                await asyncio.sleep(min(REST, pause))
                await self._events.wait(last, pause)
        await self._keep_surely()
        return self.ending

    async def look(self) -> float:
        """One look, and what follows from it; returns for how many seconds nothing is due."""
        rules, now = self._rules(), self._clock()
        if not rules:
            return LONGEST_PAUSE
        use = self._use(rules)
        seen = note(self.seen, use, now)
        ahead = self._ahead(rules, seen, use)
        if ahead.is_due(now):  # decided and closed in one turn: what comes later is refused, what came before was seen
            self.seen, self.ending = seen, Ending(self._wall(), ahead.rule, why(ahead.rule, rules))
            self._close(self.ending)
            return 0.0
        warning = warns_at(rules, seen)
        if warning is not None and warning <= self._wall():
            self._warn(rules)
            seen, warning = replace(seen, warned_of=rules.at), None
        if seen != self.seen:
            self.seen = seen
            await self._keep()
        due = [ahead.ends_at - now] if ahead.ends_at is not None else []
        due += [warning - self._wall()] if warning is not None else []
        return max(0.01, min([*due, LONGEST_PAUSE]))

    def document(self, per_hour: float) -> dict[str, Any] | None:
        """What status says of it; None where the cluster does not end itself. `ends_at` is in unix seconds, the cost in dollars
        from now until then, at `per_hour`; both None where no time is named yet."""
        rules = self._rules()
        if self.ending is not None:
            text = f"is ending itself: {self.ending.text}"
            return {"rule": self.ending.rule, "ends_at": self.ending.at, "cost": 0.0, "ending": True, "text": text}
        if not rules:
            return None
        use, now = self._use(rules), self._clock()
        ahead = self._ahead(rules, note(self.seen, use, now), use)
        if ahead.ends_at is None:
            text = tell(ahead, now, per_hour)
            return {"rule": "", "ends_at": None, "cost": None, "ending": False, "text": text}
        left = max(0.0, ahead.ends_at - now)
        ends_at = round(self._wall() + left)  # by people's clock
        shown = _in_minutes(left)
        text = tell(replace(ahead, ends_at=ends_at), ends_at - shown, per_hour)
        cost = round(per_hour * shown / 3600, 2)
        return {"rule": ahead.rule, "ends_at": ends_at, "cost": cost, "ending": False, "text": text}

    def _ahead(self, rules: Lifetime, seen: Seen, use: Use) -> Outlook:
        """By the head's clock. `at` is a moment of people's: where their clock is set, or the machine has slept, it counts."""
        if rules.at is not None:
            rules = replace(rules, at=rules.at + self._clock() - self._wall())
        return outlook(rules, seen, use)

    def _warn(self, rules: Lifetime) -> None:
        left = max(0.0, (rules.at or 0.0) - self._wall())
        text = f"the cluster ends itself at {moment(rules.at or 0.0)}, in {ceil(left / 60)} min, whatever runs then"
        self._events.add("cluster", self._name, "ends_soon", text)

    # ------------------------------------------------------------ on disk

    def _load(self) -> None:
        try:
            body = json.loads(self._path.read_text())
            self.seen = Seen(**body["seen"])
            self.ending = Ending(**body["ending"]) if body.get("ending") else None
        except FileNotFoundError:
            write_private(self._path, self._text())  # from now on jobs are of this life
        except (ValueError, KeyError, TypeError):
            log.exception("%s cannot be read: what was seen counts from now on", self._path)

    def _text(self) -> str:
        return json.dumps({"seen": asdict(self.seen), "ending": asdict(self.ending) if self.ending else None})

    async def _keep(self) -> bool:
        try:
            await asyncio.to_thread(write_private, self._path, self._text())
        except OSError as error:
            log.error("%s cannot be written: %s", self._path, error)
            return False
        return True

    async def _keep_surely(self) -> None:
        while not await self._keep():  # noqa: ASYNC110  a disk tells nobody that it has room again
            await asyncio.sleep(DISK_PAUSE)


def _in_minutes(seconds: float) -> float:
    """Whole minutes where it is some: who watches is not told of every second."""
    return 60.0 * ceil(seconds / 60) if seconds > 120 else seconds
