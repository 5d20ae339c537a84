"""Removing a node in two phases: no new work, then its work ends and the engine lets go, and only then may it be ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.nodes.fleet import Fleet
from clusterctl_runtime.head.nodes.ledger import NodeLedger

log = logging.getLogger(__name__)


class EngineDrain(Protocol):
    async def drain(self, books: NodeLedger, deadline: float | None) -> bool:
        """True once the engine runs nothing on the node and takes nothing new there; False when it refused."""
        ...

    def called_off(self, books: NodeLedger) -> None:
        """The node takes work again: the engine is to run there, also where it let go of the node meanwhile."""
        ...


class NoEngineDrain:
    async def drain(self, books: NodeLedger, deadline: float | None) -> bool:
        return True

    def called_off(self, books: NodeLedger) -> None:
        pass


class Draining:
    """`begin` cordons; `check` (each tick) sends nodes without queue work to the engine's drain and notes its answer."""

    def __init__(self, fleet: Fleet, wake: Callable[[], None]) -> None:
        self._fleet = fleet
        self._wake = wake
        self.engine: EngineDrain = NoEngineDrain()
        self._deadlines: dict[str, float | None] = {}
        self._asking: dict[str, asyncio.Task[Any]] = {}
        self._let_go: set[str] = set()  # the engine is out, queue work is still ending

    def begin(self, node_id: str, deadline: float | None) -> None:
        """No new work from now on. Said again it only sets another `deadline`: unix seconds, None to wait for the work."""
        books = self._fleet.ledger.get(node_id)
        if books and books.drain == "":
            books.drain = "requested"
        self._deadlines[node_id] = deadline

    def end(self, node_id: str) -> None:
        """The drain was called off: the node takes work again. What the engine was asked for meanwhile it may still do."""
        books = self._fleet.ledger.get(node_id)
        if books:
            books.drain = ""
        self._deadlines.pop(node_id, None)
        self._let_go.discard(node_id)
        task = self._asking.pop(node_id, None)
        if task:
            task.cancel()
        if books:
            self.engine.called_off(books)
        self._fleet.takes_work_again()

    def check(self) -> None:
        """Looks at every node that drains. One that the engine has let go of is acknowledged; of one that is empty, or has a
        deadline, the engine is asked."""
        for books in list(self._fleet.ledger):
            if books.drain != "requested" or books.node_id in self._asking:
                continue
            if books.node_id in self._let_go:
                self._acknowledge(books)
            elif not books.holdings or self._deadlines.get(books.node_id) is not None:
                task = asyncio.get_running_loop().create_task(self._ask(books))
                self._asking[books.node_id] = task
                task.add_done_callback(lambda _, node_id=books.node_id: self._asking.pop(node_id, None))

    def _acknowledge(self, books: NodeLedger) -> None:
        if not books.holdings:
            books.drain = "acked"
            self._let_go.discard(books.node_id)
            self._wake()

    async def _ask(self, books: NodeLedger) -> None:
        deadline = self._deadlines.get(books.node_id)
        try:
            accepted = await self._fleet_drain(books, deadline)
        except Exception:
            log.exception("draining %s", books.node_id)
            accepted = False
        if books.drain != "requested":
            return
        if accepted:
            self._let_go.add(books.node_id)
            self._acknowledge(books)
            return
        books.drain = ""
        books.busy = steady_time()
        self._fleet.move(books.node_id, "undrain", "the engine still uses it: it takes work again", "drain_refused")
        self._fleet.takes_work_again()
        self._wake()

    async def _fleet_drain(self, books: NodeLedger, deadline: float | None) -> bool:
        if not books.connected or books.engine.state != "ready":
            return True
        return await self.engine.drain(books, deadline)
