"""Which share of a node its raylet has: CPU, memory and custom resources by resizing it, GPUs by holding them through Ray."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from clusterctl.core.resources import Resources
from clusterctl_runtime.engine.client import EngineClient, EngineRefused, Hold
from clusterctl_runtime.head.events import EventLog
from clusterctl_runtime.head.fleet import Fleet
from clusterctl_runtime.head.ledger import Holding, NodeLedger

log = logging.getLogger(__name__)


class EngineShares:
    """Implements the dispatcher's `Shares`. `client` is the way to the engine, None while there is none; `spawn` runs what
    nobody waits for."""

    def __init__(self, fleet: Fleet, events: EventLog, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._fleet, self._events, self._spawn = fleet, events, spawn
        self.client: EngineClient | None = None
        self._lent: dict[str, Resources] = {}  # node id -> totals its raylet has now
        self._matching = asyncio.Lock()

    def forget(self, node_id: str) -> None:
        """Its raylet is new or gone: what it has is not known."""
        self._lent.pop(node_id, None)

    async def take(self, books: NodeLedger, resources: Resources) -> tuple[bool, str, list[int] | None]:
        """Takes `resources` of the node from its raylet; (False, "", None) and nothing changed when Ray uses them."""
        if books.engine.state != "ready" or self._is_head(books) or self.client is None:
            return self._is_head(books), "", None
        gpus = resources.get("GPU")
        keep = _without_gpu(books.lendable - resources)
        if not await self._shrink(books, keep):
            return False, "", None
        if not gpus:
            return True, "", None
        try:
            hold_id, ids = await self.client.hold_gpus(books.engine.ray_node_id, max(1, round(gpus)))
        except Exception as error:
            log.info("GPUs of %s are not to be had: %s", books.node_id, error)
            self.settle(books.node_id)
            return False, "", None
        return True, hold_id, ids

    async def _shrink(self, books: NodeLedger, keep: Resources) -> bool:
        """Cuts the raylet to `keep`; false when running Ray work holds more than that."""
        lent = self._lent.get(books.node_id, _without_gpu(books.total))
        if lent.fits_in(keep):
            return True
        assert self.client is not None
        target = {name: keep.get(name) for name in _without_gpu(books.total)}
        try:
            got = await self.client.resize(books.engine.ray_node_id, target)
        except Exception as error:
            log.warning("the raylet of %s was not resized: %s", books.node_id, error)
            return False
        in_force = Resources.of({name: got.get(name, 0.0) for name in target})
        self._lent[books.node_id] = in_force
        return in_force.fits_in(keep)

    def settle(self, node_id: str) -> None:
        """Gives back to the raylet what no queue job holds any more."""
        self._spawn(self._give_back(node_id))

    async def _give_back(self, node_id: str) -> None:
        books = self._fleet.ledger.get(node_id)
        if books is None or books.engine.state != "ready" or self._is_head(books) or self.client is None:
            return
        keep = _without_gpu(books.lendable)
        if self._lent.get(node_id) == keep:  # unknown after a start of the head: then it is set, whatever it was
            return
        target = {name: keep.get(name) for name in _without_gpu(books.total)}
        try:
            got = await self.client.resize(books.engine.ray_node_id, target)
            self._lent[node_id] = Resources.of({name: got.get(name, 0.0) for name in target})
        except Exception as error:
            log.warning("the raylet of %s was not given its share back: %s", node_id, error)

    async def hold_again(self) -> None:
        """Holds outlive the head and the helper that asked for them. What runs gets its own back; what Ray has lost is held anew,
        and if Ray was quicker, that is said; what nobody has any more goes back to Ray. A node's turn is when it is known."""
        async with self._matching:
            client = self.client
            if client is None:
                return
            try:
                strays = {hold.id: hold for hold in await client.strays()}
                for books in self._known():
                    for task, holding in list(books.holdings.items()):
                        if holding.resources.get("GPU") and not client.knows(holding.hold_id):
                            await self._hold_one(client, books, task, holding, strays)
                known = {books.engine.ray_node_id for books in self._known()}
                for hold in strays.values():
                    if hold.ray_node_id in known or not hold.ids:
                        client.keep(hold)
                        await client.release_gpus(hold.id)
            except EngineRefused as error:
                log.warning("GPUs that Ray holds are looked at again later: %s", error)

    async def _hold_one(
        self, client: EngineClient, books: NodeLedger, task: str, holding: Holding, strays: dict[str, Hold]
    ) -> None:
        """Its own hold among the strays, which it then is no longer, or a new one."""
        own = strays.get(holding.hold_id) or next((s for s in strays.values() if _is_of(s, books, holding)), None)
        if own is not None:
            client.keep(strays.pop(own.id))
            holding.hold_id = own.id
            return
        holding.hold_id, ids = "", []
        try:
            gpus = max(1, round(holding.resources.get("GPU")))
            holding.hold_id, ids = await client.hold_gpus(books.engine.ray_node_id, gpus)
        except Exception as error:
            log.warning("%s: its GPUs are not held: %s", task, error)
        if holding.gpu_ids is not None and sorted(ids) != sorted(holding.gpu_ids):
            text = f"{task} uses GPUs {holding.gpu_ids} of {books.node_id}, but Ray now holds {ids} for it"
            self._events.add("engine", books.node_id, "gpus_shared", text)

    def _known(self) -> list[NodeLedger]:
        """Nodes whose raylet runs and is in Ray's state."""
        return [books for books in self._fleet.ledger if books.engine.state == "ready" and books.engine.known]

    def released(self, holding: Holding) -> None:
        """GPUs that Ray held for a job go back to it."""
        if holding.hold_id and self.client:
            self._spawn(self.client.release_gpus(holding.hold_id))

    def _is_head(self, books: NodeLedger) -> bool:
        node = self._fleet.journal.get(books.node_id)
        return bool(node and node.role == "head")


def _is_of(hold: Hold, books: NodeLedger, holding: Holding) -> bool:
    same = sorted(hold.ids) == sorted(holding.gpu_ids or ())
    return bool(hold.ids) and hold.ray_node_id == books.engine.ray_node_id and same


def _without_gpu(resources: Resources) -> Resources:
    return Resources(tuple((name, units) for name, units in resources.items if name != "GPU"))
