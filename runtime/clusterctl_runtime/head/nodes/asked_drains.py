"""Drains that a user asks for. They are booked as all others are, but refused as a whole where the engine cannot be asked."""

from __future__ import annotations

import asyncio
import time
from weakref import WeakValueDictionary

from clusterctl.core.errors import NotFound, Refused
from clusterctl.core.model import Node, NodeState, NodeView
from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.nodes.draining import Draining, NotAsked
from clusterctl_runtime.head.nodes.fleet import Fleet

USER_DRAIN = "user_drain"
DAY = 86400.0


class AskedDrains:
    """One request about a node at a time, so that each finds the record that it goes back to where it fails."""

    def __init__(self, fleet: Fleet, draining: Draining) -> None:
        self._fleet = fleet
        self._draining = draining
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def drain(self, view: NodeView, seconds: float | None) -> Node:
        """The node takes no new work; what runs there has `seconds`, or as long as it takes (None), and never longer than the
        provider leaves it. Said again it sets another deadline. Returns its record, when that is on disk and the engine has
        agreed. Raises Refused where the node cannot be drained, NotAsked where the engine could not be: then all is as before."""
        async with self._locks.setdefault(view.node.id, asyncio.Lock()):
            before = self._drainable(view.node.id)
            books = self._fleet.ledger.get(before.id)
            if books is not None and (why := self._draining.engine.hindrance(books)):
                raise _refusal(before, why)
            wanted = self._book(before, None if seconds is None else steady_time() + seconds, view.preempt_at)
            await self._fleet.written.flush()
            error = await self._draining.ask(before.id)
            if error is not None:
                self._take_back(before, wanted)
                await self._fleet.written.flush()
                raise _refusal(before, str(error)) from error
            return wanted

    async def call_off(self, node_id: str) -> None:
        """The node takes work again, once that is on disk. Raises Refused unless it drains because a user wanted that, and is not
        done with it."""
        async with self._locks.setdefault(node_id, asyncio.Lock()):
            node, books = self._fleet.journal.live(node_id), self._fleet.ledger.get(node_id)
            if node is None or books is None:
                raise NotFound(f"node {node_id} is gone")
            if node.state is not NodeState.DRAINING:
                raise Refused(f"node {node_id} is {node.state.value}: it does not drain")
            if node.code != USER_DRAIN:
                raise Refused(f"node {node_id} does not drain because a user wanted that, but: {node.reason}")
            if books.drain == "acked" or (node.drain_by or steady_time()) < steady_time():
                raise Refused(f"node {node_id} has drained: it goes now")
            self._fleet.move(node_id, "undrain", "a user called its drain off", "user_undrain")
            self._draining.end(node_id)
            books.busy = steady_time()
            await self._fleet.written.flush()

    def _drainable(self, node_id: str) -> Node:
        node = self._fleet.journal.live(node_id)
        if node is None:
            raise NotFound(f"node {node_id} is gone")
        if node.role == "head":
            raise Refused("the head node cannot be drained: `clusterctl down` ends the cluster")
        if node.state not in (NodeState.READY, NodeState.DRAINING):
            raise Refused(f"node {node_id} is {node.state.value}: only a ready node can be drained")
        return node

    def _book(self, node: Node, by: float | None, preempt_at: float | None) -> Node:
        text = "a user drains it: it goes when nothing runs there any more"
        if by is not None:
            text = f"a user drains it: what still runs there is ended at {clock(by, steady_time())}"
        if preempt_at is not None and (by is None or preempt_at < by):
            by = preempt_at
            text = f"a user drains it, and the provider takes it away at {clock(by, steady_time())}"
        wanted = self._fleet.move(node.id, "drain", text, USER_DRAIN, by)
        self._draining.begin(node.id)
        return wanted

    def _take_back(self, before: Node, wanted: Node) -> None:
        """As it was, unless something else has become of the node meanwhile."""
        if self._fleet.journal.live(before.id) != wanted:
            return
        if before.state is NodeState.DRAINING:
            self._fleet.move(before.id, "drain", before.reason, before.code, before.drain_by)
            return
        self._fleet.move(before.id, "undrain", before.reason, before.code)
        self._draining.end(before.id)


def _refusal(node: Node, why: str) -> NotAsked:
    left = "drains as before" if node.state is NodeState.DRAINING else "takes work as before"
    return NotAsked(f"node {node.id} was not drained: {why}. It {left}; try again when Ray answers.")


def clock(at: float, now: float) -> str:
    """A moment for people anywhere, with its day where that is not about to be today."""
    form = "%H:%M:%S UTC" if abs(at - now) < DAY / 2 else "%Y-%m-%d %H:%M UTC"
    return time.strftime(form, time.gmtime(at))
