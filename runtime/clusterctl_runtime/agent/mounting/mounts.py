"""The mounts of this node: made before setup and work, watched while it lives, taken away at its end.

The head says what is wanted (with `prepare`) and is told what there is (`mounts`). A mount that is lost is made again once;
until it is there, no task starts here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clusterctl_runtime.agent.mounting.check import check
from clusterctl_runtime.agent.mounting.mounter import Done, Mounter
from clusterctl_runtime.agent.mounting.record import Record, release, release_all
from clusterctl_runtime.agent.mounting.watch import TableWatch
from clusterctl_runtime.agent.mounting.ways import MountFailed, ProgramMissing
from clusterctl_runtime.files.mount_table import mounted_at
from clusterctl_runtime.wire import Message

log = logging.getLogger(__name__)
VARIABLE = "CLUSTERCTL_MOUNTS"  # what comes before the places of mounts: "" where they are as the spec says
RECHECK_SECONDS = 20.0


class Mounts:
    """`changed` is called whenever there is something to tell the head. `directory` is the node's own."""

    def __init__(self, directory: Path, changed: Callable[[], None], spare: Callable[[int], None]) -> None:
        below = Path(os.environ.get(VARIABLE) or directory / "mounts")
        self._directory, self._changed = directory, changed
        self._record = Record(directory)
        self._mounter = Mounter(directory, below, self._record, spare)
        self._wanted: list[Message] = []
        self._env: Mapping[str, str] = {}
        self._state: dict[str, Message] = {}  # by place, as the head is told
        self._unsent = False
        self._watch: TableWatch | None = None
        self._repairing: asyncio.Task[None] | None = None

    # ------------------------------------------------------------ what others ask

    def trouble(self) -> str:
        """Why no task can start here, "" where all is there."""
        return next(
            (f"{m['from']} at {m['place']}: {m['detail']}" for m in self._state.values() if m["state"] == "lost"), ""
        )

    async def recheck(self) -> None:
        """At the start of an agent: notes what of an earlier one's is gone or does not answer, so that no task starts without it.
        Changes nothing: what is missing is made when the head has said what is wanted."""
        for place, entry in self._record.entries.items():
            seen = mounted_at(place)
            if entry.get("link"):
                continue
            if seen is None or not self._record.is_ours(place, seen):
                detail = "it is not mounted any more"
            else:
                detail = (await check(place, False, dict(os.environ), RECHECK_SECONDS)).error
            if detail:
                self._tell(place, {"from": entry.get("from", ""), "to": place, "state": "lost", "detail": detail})

    @property
    def is_any(self) -> bool:
        """Whether this node has mounted something, now or before its agent was started."""
        return bool(self._record.entries)

    def take(self) -> Message | None:
        """What the head was not told yet."""
        if not self._unsent:
            return None
        self._unsent = False
        return {"t": "mounts", "items": list(self._state.values())}

    def parted(self) -> None:
        """The next head may know nothing."""
        self._unsent = bool(self._state)

    # ------------------------------------------------------------ what happens

    async def make(
        self, wanted: Sequence[Message], env: Mapping[str, str], say: Callable[[str], None], *, defer: bool
    ) -> bool:
        """Makes it so that these are mounted and no other of ours. With `defer`, what lacks a program is left for a later
        call, after setup: returns whether there is such a thing. Raises MountFailed."""
        self._wanted, self._env = list(wanted), env
        await self._settled()
        if not wanted and not self.is_any:
            return False
        await self._drop(wanted)
        waiting = False
        for number, told in enumerate(wanted, 1):
            place = self._mounter.place_of(told)
            say(f"mounts {number} of {len(wanted)}: {told['from']} at {told['to']}")
            try:
                self._done(told, await self._mounter.mount(told, env))
            except ProgramMissing as error:
                if not defer:
                    self._failed(told, place, error)
                    raise
                waiting = True
            except MountFailed as error:
                self._failed(told, place, error)
                raise
        self._look_after()
        return waiting

    async def close(self) -> None:
        """At the end of this node: unmounts what is ours."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        if self._repairing is not None:
            self._repairing.cancel()
            await asyncio.wait([self._repairing])
        for text in await asyncio.get_running_loop().run_in_executor(None, release_all, self._directory):
            log.error("%s", text)

    # ------------------------------------------------------------ inside

    async def _settled(self) -> None:
        if self._repairing is not None:
            await asyncio.wait([self._repairing])

    async def _drop(self, wanted: Sequence[Message]) -> None:
        """Unmounts what is wanted no more."""
        places = {self._mounter.place_of(told) for told in wanted}
        loop = asyncio.get_running_loop()
        for place in [place for place in reversed(list(self._record.entries)) if place not in places]:
            left = await loop.run_in_executor(None, lambda place=place: list(release(self._record, place, lazy=False)))
            if left and place in self._record.entries:
                raise MountFailed(f"{'; '.join(left)}: end what uses it, or this node")
            for text in left:
                log.error("%s", text)
        for place in self._state.keys() - places:
            del self._state[place]
            self._unsent = True

    def _done(self, told: Message, done: Done) -> None:
        size, free = done.checked.size, done.checked.free
        facts = {
            "type": done.type,
            "source": done.source,
            "mode": told["mode"],
            "size": size,
            "free": free,
            "at": time.time(),
        }
        self._tell(done.place, {**_named(told), "state": "mounted", "detail": "", **facts})

    def _failed(self, told: Message, place: str, error: MountFailed) -> None:
        self._tell(place, {**_named(told), "state": "failed", "detail": str(error)})

    def _tell(self, place: str, state: dict[str, Any]) -> None:
        self._state[place] = {**state, "place": place}
        self._unsent = True
        self._changed()

    def _look_after(self) -> None:
        if self._watch is None:
            self._watch = TableWatch(self._table_changed)
        for entry in self._record.entries.values():
            if entry.get("pid"):
                self._watch.program(int(entry["pid"]))

    def _table_changed(self) -> None:
        """Somebody mounted or unmounted something, or a program has ended: most often nothing of ours."""
        if self._repairing is None and any(self._is_lost(told) for told in self._wanted):
            self._repairing = asyncio.ensure_future(self._repair())

    def _is_lost(self, told: Message) -> bool:
        place = self._mounter.place_of(told)
        state, entry = self._state.get(place), self._record.entries.get(place, {})
        if state is None or state["state"] != "mounted" or "directory" in told:
            return False
        seen = mounted_at(place)
        ended = bool(entry.get("pid")) and not Path(f"/proc/{entry['pid']}").is_dir()
        return seen is None or seen.source != state["source"] or ended

    async def _repair(self) -> None:
        """Says what is lost, and makes it again: once, since what takes it away may do so for ever."""
        try:
            for told in [told for told in self._wanted if self._is_lost(told)]:
                place = self._mounter.place_of(told)
                log.warning("%s at %s is not mounted any more", told["from"], place)
                lost = {**_named(told), "state": "lost", "detail": "it is not mounted any more"}
                self._tell(place, lost)
                try:
                    self._done(told, await self._mounter.mount(told, self._env))
                except MountFailed as error:
                    self._tell(
                        place, {**lost, "detail": f"it is not mounted any more, and mounting it again failed: {error}"}
                    )
            self._look_after()
        finally:
            self._repairing = None


def _named(told: Message) -> Message:
    return {"from": told["from"], "to": told["to"]}
