"""Which share of a node its raylet has: CPU, memory and custom resources by resizing it, GPUs by holding them through Ray.

What a raylet should have follows from the books alone: all that nobody holds there, holdings that are only asked for included.
So each resize sets the same target, whoever asks for it, and is repeated until the raylet agrees with the books.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from clusterctl.core.model import Node
from clusterctl.core.resources import Resources
from clusterctl_runtime.backoff import Backoff
from clusterctl_runtime.engine.client import EngineClient, EngineRefused, Hold
from clusterctl_runtime.head.jobs.shares import ShareRefused
from clusterctl_runtime.head.nodes.fleet import Fleet
from clusterctl_runtime.head.nodes.ledger import Holding, NodeLedger
from clusterctl_runtime.head.storage.events import EventLog

log = logging.getLogger(__name__)
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between two tries to make a raylet agree with the books


@dataclass
class _Raylet:
    """What is known of one raylet. `lent`: the totals that are in force, None where nobody knows. `sizing` serialises its
    resizes, `holding` what is asked of it about GPUs."""

    lent: Resources | None = None
    sizing: asyncio.Lock = field(default_factory=asyncio.Lock)
    holding: asyncio.Lock = field(default_factory=asyncio.Lock)
    settling: bool = False


class EngineShares:
    """Implements the dispatcher's `Shares`. `client` is the way to the engine, None while there is none; `spawn` runs what
    nobody waits for."""

    def __init__(
        self,
        fleet: Fleet,
        events: EventLog,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        runs_on: Callable[[Node], bool] = lambda _: True,
    ) -> None:
        self._fleet, self._events, self._spawn, self._runs_on = fleet, events, spawn, runs_on
        self.client: EngineClient | None = None
        self._raylets: dict[str, _Raylet] = {}  # by Ray's id of the node: a raylet that is started anew has another one
        self._matching = self._look_again = False
        self._told: set[str] = set()  # tasks of which it was said that others may use their GPUs

    def forget(self, books: NodeLedger) -> None:
        """Its raylet is gone."""
        self._raylets.pop(books.engine.ray_node_id, None)

    def asks(self, books: NodeLedger) -> bool:
        """Whether a share of that node is the engine's to give. On the head node Ray has nothing to give, and on nodes outside of
        its network it does not run."""
        node = self._fleet.journal.get(books.node_id)
        return node is None or (node.role != "head" and self._runs_on(node))

    # ------------------------------------------------------------ taking

    async def take(self, books: NodeLedger, holding: Holding) -> None:
        """Makes the engine let go of what `holding`, which is in the books, has: then it is `secured` and its GPUs are named.
        ShareRefused when Ray uses that, or could not be asked; the caller takes the holding out of the books, then `settle`."""
        await self._secure(books, holding)
        if gpus := holding.resources.get("GPU"):
            await self._hold(books, holding, gpus)

    async def _secure(self, books: NodeLedger, holding: Holding) -> None:
        raylet = self._raylet(books)
        async with raylet.sizing:
            if not _fits(books, raylet, holding):
                await self._resize(books, raylet)
            if not _fits(books, raylet, holding):
                raise ShareRefused(f"{books.node_id}: Ray's own tasks and actors use what the job asks for")
            holding.secured = True

    async def _hold(self, books: NodeLedger, holding: Holding, gpus: float) -> None:
        async with self._raylet(books).holding:
            client = self._client_of(books)
            spare = next((h for h in self._unclaimed(books) if h.gpus == gpus and client.is_granted(h)), None)
            if spare is not None:  # of a job that has just ended: it need not go through Ray
                holding.hold_id, holding.gpu_ids = spare.id, list(spare.ids)
                return
            try:
                hold_id, holding.gpu_ids = await client.hold_gpus(books.engine.ray_node_id, gpus)
            except EngineRefused as error:
                raise ShareRefused(f"{books.node_id}: {error}") from error
            holding.hold_id = hold_id

    async def _resize(self, books: NodeLedger, raylet: _Raylet) -> None:
        """Sets the raylet's totals to what nobody holds now. While it is asked, nobody knows what is in force."""
        client, before = self._client_of(books), raylet.lent
        keep = _without_gpu(books.lendable)
        target = {name: keep.get(name) for name in _without_gpu(books.total)}
        raylet.lent = None
        try:
            got = await client.resize(books.engine.ray_node_id, target)
        except EngineRefused as error:
            log.warning("the raylet of %s was not resized from %s to %s: %s", books.node_id, before, keep, error)
            raise ShareRefused(f"{books.node_id}: Ray could not be asked for a share of it: {error}") from error
        raylet.lent = Resources.of({name: got.get(name, 0.0) for name in target})

    def _raylet(self, books: NodeLedger) -> _Raylet:
        self._client_of(books)
        return self._raylets.setdefault(books.engine.ray_node_id, _Raylet())

    def _client_of(self, books: NodeLedger) -> EngineClient:
        """The way to the raylet of that node, asked for anew after every wait."""
        if self.client is None or not self._is_lent(books):
            raise ShareRefused(f"{books.node_id}: Ray is not ready there")
        return self.client

    def _is_lent(self, books: NodeLedger) -> bool:
        return books.engine.state == "ready" and self._fleet.ledger.get(books.node_id) is books and self.asks(books)

    # ------------------------------------------------------------ giving back

    def settle(self, node_id: str) -> None:
        """Makes the engine agree with the books: what no queue job holds any more goes back to it. Repeated until it does."""
        books = self._fleet.ledger.get(node_id)
        if books is None or self.client is None or not self._is_lent(books):
            return
        raylet = self._raylet(books)
        if not raylet.settling:
            raylet.settling = True
            self._spawn(self._settle(books, raylet))

    def settle_all(self) -> None:
        """After news of the engine: whatever could not be given back meanwhile."""
        for books in list(self._fleet.ledger):
            self.settle(books.node_id)

    async def _settle(self, books: NodeLedger, raylet: _Raylet) -> None:
        pauses = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        try:
            while not await self._agrees(books, raylet):
                pause = pauses.next()
                await asyncio.sleep(pause)
        finally:
            raylet.settling = False

    async def _agrees(self, books: NodeLedger, raylet: _Raylet) -> bool:
        """Gives back what can be; whether nothing is left to be given, or nobody to give it to."""
        try:
            async with raylet.sizing:
                if raylet.lent != _without_gpu(books.lendable):
                    await self._resize(books, raylet)
            async with raylet.holding:
                await self._let_go(books)
            return raylet.lent == _without_gpu(books.lendable) and not self._unclaimed(books)
        except ShareRefused:
            return not self._is_lent(books)

    async def _let_go(self, books: NodeLedger) -> None:
        """Nobody is asking for GPUs of this node now, so a hold that no holding names is nobody's."""
        client = self._client_of(books)
        for hold in self._unclaimed(books):
            await client.release_gpus(hold.id)

    def _unclaimed(self, books: NodeLedger) -> list[Hold]:
        claimed = {holding.hold_id for holding in books.holdings.values()}
        return [h for h in self._client_of(books).holds_on(books.engine.ray_node_id) if h.id not in claimed]

    # ------------------------------------------------------------ after a restart

    def hold_again(self) -> None:
        """Holds outlive the head and the helper that asked for them. What runs gets its own back; what Ray has lost is held anew,
        and if Ray was quicker, that is said; what nobody has any more goes back to Ray. A node's turn is when it is known.
        Repeated until all of it is done."""
        self._look_again = True
        if not self._matching:
            self._matching = True
            self._spawn(self._match())

    async def _match(self) -> None:
        pauses = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        try:
            while self._look_again and (client := self.client) is not None:
                self._look_again = False
                if not await self._match_once(client):
                    await asyncio.sleep(pauses.next())
                    self._look_again = True
        finally:
            self._matching = False

    async def _match_once(self, client: EngineClient) -> bool:
        """Whether everything on nodes that are known is held by whom it should be, and by nobody else."""
        try:
            strays = {hold.id: hold for hold in await client.strays()}
            all_held, looked_at = True, set[str]()
            for books in self._known():
                looked_at.add(books.engine.ray_node_id)
                all_held = await self._hold_all(client, books, strays) and all_held
            for hold in strays.values():  # not of a node that has become known meanwhile: its turn is next
                if hold.ray_node_id in looked_at or not hold.ids:
                    client.adopt(hold)
                    await client.release_gpus(hold.id)
            return await client.let_go() and all_held
        except EngineRefused as error:
            log.warning("GPUs that Ray holds are looked at again later: %s", error)
            return False

    async def _hold_all(self, client: EngineClient, books: NodeLedger, strays: dict[str, Hold]) -> bool:
        """What runs on one node gets its GPUs back. What is only starting there asks for them itself."""
        raylet = self._raylets.setdefault(books.engine.ray_node_id, _Raylet())
        all_held = True
        async with raylet.holding:
            for task, holding in list(books.holdings.items()):
                if holding.starting or not holding.resources.get("GPU") or client.knows(holding.hold_id):
                    continue
                all_held = await self._hold_one(client, books, task, holding, strays) and all_held
        return all_held

    async def _hold_one(
        self, client: EngineClient, books: NodeLedger, task: str, holding: Holding, strays: dict[str, Hold]
    ) -> bool:
        """Its own hold among the strays, which it then is no longer, or a new one."""
        own = strays.get(holding.hold_id) or next((s for s in strays.values() if _is_of(s, books, holding)), None)
        if own is not None:
            client.adopt(strays.pop(own.id))
            holding.hold_id = own.id
            return True
        holding.hold_id, ids = "", []
        try:
            holding.hold_id, ids = await client.hold_gpus(books.engine.ray_node_id, holding.resources.get("GPU"))
        except EngineRefused as error:
            log.warning("%s: its GPUs are not held: %s", task, error)
        if holding.gpu_ids is not None and sorted(ids) != sorted(holding.gpu_ids) and task not in self._told:
            self._told.add(task)
            text = f"{task} uses GPUs {holding.gpu_ids} of {books.node_id}, but Ray now holds {ids} for it"
            self._events.add("engine", books.node_id, "gpus_shared", text)
        return bool(holding.hold_id)

    def _known(self) -> list[NodeLedger]:
        """Nodes whose raylet runs and is in Ray's state."""
        return [books for books in self._fleet.ledger if books.engine.state == "ready" and books.engine.known]


def _fits(books: NodeLedger, raylet: _Raylet, holding: Holding) -> bool:
    """Whether the raylet has let go of what `holding` needs beside all that is secured there already."""
    lent = _without_gpu(books.total) if raylet.lent is None else raylet.lent
    wanted = holding.resources
    for other in books.holdings.values():
        if other.secured and other is not holding:
            wanted = wanted + other.resources
    return _without_gpu(wanted).fits_in(_without_gpu(books.total) - lent)


def _is_of(hold: Hold, books: NodeLedger, holding: Holding) -> bool:
    same = sorted(hold.ids) == sorted(holding.gpu_ids or ()) and hold.gpus == holding.resources.get("GPU")
    return bool(hold.ids) and hold.ray_node_id == books.engine.ray_node_id and same


def _without_gpu(resources: Resources) -> Resources:
    return Resources(tuple((name, units) for name, units in resources.items if name != "GPU"))
