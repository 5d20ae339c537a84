"""What drivers asked for with `request_resources`: forgotten when nobody runs who could have asked, and told to whoever asks
why a node stays.

Ray keeps one such wish for the whole cluster, of the driver that wrote it last, and keeps it after that driver has ended.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from clusterctl.core.errors import ClusterctlError
from clusterctl.core.model import Demand
from clusterctl.core.waits import copies_of
from clusterctl_runtime.engine.client import EngineState
from clusterctl_runtime.head.jobs.job import split_task
from clusterctl_runtime.head.storage.events import EventLog

log = logging.getLogger(__name__)
CALL = "ray.autoscaler.sdk.request_resources(bundles=[])"


class StandingRequests:
    """`forget` asks Ray to forget them, which it refuses while a driver runs; `spawn` runs what nobody waits for."""

    def __init__(
        self,
        forget: Callable[[], Awaitable[bool]],
        events: EventLog,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._forget, self._events, self._spawn = forget, events, spawn
        self._wanted: tuple[tuple[str, int], ...] = ()
        self._asked_by: tuple[str, ...] = ()
        self._running: tuple[str, ...] = ()
        self._forgetting = False

    def take(self, state: EngineState) -> None:
        """A new state of Ray's. Who ran when the wish last changed has asked for it, or had ended by then."""
        if not state.healthy:
            return
        wanted = tuple((demand.id, demand.count) for demand in state.demand if demand.source == "request")
        drivers = state.drivers or ()
        if wanted != self._wanted:
            self._wanted, self._asked_by = wanted, drivers
        self._running = drivers
        if wanted and state.drivers == () and not self._forgetting:
            self._forgetting = True
            self._spawn(self._end(state.demand))

    async def _end(self, demand: tuple[Demand, ...]) -> None:
        what = ", ".join(copies_of(d.bundles[0][0], d.count) for d in demand if d.source == "request")
        try:
            if await self._forget():
                text = f"request_resources of {what} is forgotten: no driver runs that could have asked for it"
                self._events.add("engine", "ray", "request_forgotten", text)
        except ClusterctlError as error:
            log.warning("request_resources is not forgotten yet: %s", error)
        finally:
            self._forgetting = False

    @property
    def sentence(self) -> str:
        """Who asked, as far as that is known, and how it ends."""
        if not self._running:
            return "who asked has ended: it is about to be forgotten"
        asked, running = " or ".join(map(_name, self._asked_by)), " and ".join(map(_name, self._running))
        if set(self._asked_by) & set(self._running):
            return f"asked for by {asked}: it ends with that, or when a driver calls {CALL}"
        asked = f"asked for by {asked}, which has ended" if asked else "who asked has ended"
        return f"{asked}, but {running} may have asked for the same: it ends with that, or when a driver calls {CALL}"


def _name(driver: str) -> str:
    return split_task(driver)[0] if "/" in driver else f"Ray's job {driver}"
