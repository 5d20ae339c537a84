"""Removing a node in two phases: no new work, then its work ends and the engine lets go, and only then may it be ended.

What is wanted of a node is its record in the journal: that it drains, why, and until when. Here the engine is asked to agree
with that, as often as it takes; so a drain goes on where it was after the head's daemon was started again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from clusterctl.core.errors import ClusterctlError
from clusterctl.core.model import Node, NodeState
from clusterctl.core.scale_down.letting_go import REVOCABLE
from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.nodes.fleet import Fleet
from clusterctl_runtime.head.nodes.ledger import NodeLedger

log = logging.getLogger(__name__)


class NotAsked(ClusterctlError):
    """The engine could not be asked, or did not answer: whether it lets go of the node is not known."""


class Answer(Enum):
    """What the engine says to a drain."""

    OUT = "out"  # it runs nothing there, and takes nothing new
    LEAVING = "leaving"  # it takes nothing new; `has_left` tells when what it runs has ended
    IN_USE = "in use"  # it was to leave only where it is idle, and is not


class EngineDrain(Protocol):
    async def drain(self, books: NodeLedger, *, if_idle: bool, deadline: float | None) -> Answer:
        """Asks the engine to take nothing new on the node: `if_idle` only where nothing of its runs there, else whatever runs,
        which has until `deadline` (unix seconds, None for no end). Said again it sets another deadline. Raises NotAsked."""
        ...

    def has_left(self, books: NodeLedger) -> bool:
        """Whether the engine runs nothing on the node and will not."""
        ...

    def hindrance(self, books: NodeLedger) -> str:
        """Why the engine on this node could not be asked now, for people; "" where nothing speaks against it."""
        ...

    def called_off(self, books: NodeLedger) -> None:
        """The node takes work again: the engine is to run there, also where it let go of the node meanwhile."""
        ...


class NoEngineDrain:
    async def drain(self, books: NodeLedger, *, if_idle: bool, deadline: float | None) -> Answer:
        return Answer.OUT

    def has_left(self, books: NodeLedger) -> bool:
        return True

    def hindrance(self, books: NodeLedger) -> str:
        return ""

    def called_off(self, books: NodeLedger) -> None:
        pass


class Draining:
    """`begin` cordons; `check` (each tick) asks the engine of nodes that drain, and acknowledges those that are done."""

    def __init__(self, fleet: Fleet, wake: Callable[[], None]) -> None:
        self._fleet = fleet
        self._wake = wake
        self.engine: EngineDrain = NoEngineDrain()
        self.changed: Callable[[str], None] = lambda node_id: (
            None
        )  # told of a node that drains, by another time, or no more
        self._asking: dict[str, asyncio.Task[NotAsked | None]] = {}
        self._leaving: dict[str, float | None] = {}  # the engine takes nothing new there, and knows this deadline
        self._out: set[str] = set()  # the engine is out, queue work is still ending
        self._unheard: set[str] = set()  # of which it was logged that the engine could not be asked

    def begin(self, node_id: str) -> None:
        """No new work from now on; until when what runs may go on is in the node's record. Idempotent."""
        books = self._fleet.ledger.get(node_id)
        if books and books.drain == "":
            books.drain = "requested"
        self.changed(node_id)

    def end(self, node_id: str) -> None:
        """The drain was called off: the node takes work again. What the engine was asked for meanwhile it may still do."""
        books = self._fleet.ledger.get(node_id)
        if books:
            books.drain = ""
        self._forget(node_id)
        task = self._asking.pop(node_id, None)
        if task:
            task.cancel()
        if books:
            self.engine.called_off(books)
        self.changed(node_id)
        self._fleet.takes_work_again()

    def check(self) -> None:
        """Looks at every node that drains. The engine is asked of those where it has not agreed yet, as often as it takes; one
        that it is out of, and where no queue work is left, is acknowledged."""
        for books in list(self._fleet.ledger):
            if books.drain != "requested" or books.node_id in self._asking:
                continue
            node = self._fleet.journal.live(books.node_id)
            if node is None or node.state is not NodeState.DRAINING:
                continue  # its record is about to say so
            if self._agreed(node):
                self._acknowledge(books)
            elif not (_if_idle(node) and books.holdings):
                self._start(books, node)

    async def ask(self, node_id: str) -> NotAsked | None:
        """Asks the engine of a node that drains, unless it has agreed already, and returns what kept it from being asked."""
        while task := self._asking.get(node_id):
            await asyncio.wait([task])  # it may have been asked something else
        books, node = self._fleet.ledger.get(node_id), self._fleet.journal.live(node_id)
        if books is None or node is None or books.drain != "requested" or self._agreed(node):
            return None
        task = self._start(books, node)
        await asyncio.wait([task])
        return None if task.cancelled() else task.result()

    def _agreed(self, node: Node) -> bool:
        told = node.id in self._leaving and self._leaving[node.id] == node.drain_by
        return node.id in self._out or told

    def _start(self, books: NodeLedger, node: Node) -> asyncio.Task[NotAsked | None]:
        task = asyncio.get_running_loop().create_task(self._ask(books, node))
        self._asking[node.id] = task
        task.add_done_callback(lambda done: self._asked(node.id, done))
        return task

    def _asked(self, node_id: str, task: asyncio.Task[NotAsked | None]) -> None:
        if self._asking.get(node_id) is task:
            del self._asking[node_id]

    def _acknowledge(self, books: NodeLedger) -> None:
        if not books.holdings and (books.node_id in self._out or self.engine.has_left(books)):
            books.drain = "acked"
            self._forget(books.node_id)
            self._wake()

    async def _ask(self, books: NodeLedger, node: Node) -> NotAsked | None:
        try:
            answer = await self.engine.drain(books, if_idle=_if_idle(node), deadline=node.drain_by)
        except NotAsked as error:
            if node.id not in self._unheard:
                self._unheard.add(node.id)
                log.warning("draining %s: %s", node.id, error)
            return error
        except Exception as error:  # whatever it is, it is asked again, and whoever waits for the answer is told
            log.exception("draining %s", node.id)
            return NotAsked(f"the head failed to ask the engine ({type(error).__name__}; see head.log)")
        if books.drain != "requested":
            return None
        if answer is Answer.OUT:
            self._out.add(node.id)
            self._acknowledge(books)
        elif answer is Answer.LEAVING:
            self._leaving[node.id] = node.drain_by
            self._acknowledge(books)
        elif self._fleet.journal.live(node.id) == node:
            self._refused(books)
        return None

    def _refused(self, books: NodeLedger) -> None:
        books.drain = ""
        books.busy = steady_time()
        self._forget(books.node_id)
        self._fleet.move(books.node_id, "undrain", "the engine still uses it: it takes work again", "drain_refused")
        self._fleet.takes_work_again()
        self._wake()

    def _forget(self, node_id: str) -> None:
        self._leaving.pop(node_id, None)
        self._out.discard(node_id)
        self._unheard.discard(node_id)


def _if_idle(node: Node) -> bool:
    """A drain that demand may call back ends nothing: it is for a node that is idle, and only as long as it is."""
    return node.code in REVOCABLE and node.drain_by is None
