"""Nodes as the API shows them: one, and a page of those that are asked for."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clusterctl.core.model import Node, NodeState, NodeView, by_number, dead_after
from clusterctl.core.upkeep import ANY_POOL, JOINED_STATES, unheard
from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.jobs.job import split_task
from clusterctl_runtime.head.nodes.census import is_in_service, named
from clusterctl_runtime.head.turns import in_turns

if TYPE_CHECKING:
    from clusterctl_runtime.head.head import Head
    from clusterctl_runtime.head.nodes.ledger import NodeLedger

Document = dict[str, Any]
LOOKED_AT_ONCE = 500  # nodes that one turn of the loop looks at, or makes documents of, for a page


@dataclass(frozen=True)
class Wanted:
    """Which nodes: of `pool`, in one of `states`, with every one of `words` (in small letters) in what is shown of them, and
    that take work now or do not; "", nothing and None are all."""

    pool: str = ""
    states: Collection[NodeState] = ()
    words: Collection[str] = ()
    in_service: bool | None = None

    def takes(self, head: Head, view: NodeView) -> bool:
        """Whether this is one, but for its pool."""
        if self.states and view.node.state not in self.states:
            return False
        if self.in_service is not None and is_in_service(head.ledger, head.preparing, view) is not self.in_service:
            return False
        if not self.words:
            return True
        text = shown_text(head, view)
        return all(word in text for word in self.words)


async def node_page(head: Head, wanted: Wanted, limit: int, after: str) -> Document:
    """The first `limit` nodes behind the one called `after`, by pool and number; all of one moment. That node need not be there
    any more: whoever reads on from the last of each page sees no node twice, and every node that was there all the time."""
    behind: list[tuple[tuple[str, int, str], NodeView]] = []
    counts: Counter[NodeState] = Counter()
    cursor, before = by_number(after) if after else None, 0
    async for part in in_turns(head.fleet.roster.all(steady_time()), LOOKED_AT_ONCE):
        for view in part:
            if wanted.pool and view.node.pool != wanted.pool:
                continue
            counts[view.node.state] += 1
            if not wanted.takes(head, view):
                continue
            place = by_number(view.node.id)
            if cursor is not None and place <= cursor:
                before += 1
            else:
                behind.append((place, view))
    page = heapq.nsmallest(limit, behind, key=lambda found: found[0])
    documents: list[Document] = []
    async for part in in_turns(page, LOOKED_AT_ONCE):
        documents += [node_document(head, view) for _, view in part]
    return {
        "nodes": documents,
        "counts": named(counts),
        "total": before + len(behind),
        "before": before,
        "next": documents[-1]["id"] if len(behind) > limit else None,
    }


def shown_text(head: Head, view: NodeView) -> str:
    """What a person can look for in a list of nodes."""
    node, books = view.node, head.ledger.get(view.node.id)
    offer = node.offer
    where = (node.id, node.instance_id, _address(node, books), offer.instance_type, offer.market, offer.zone)
    told = (node.state.value, books.owner if books else "", _why(head, node, _is_connected(books))["reason"])
    return " ".join((*where, node.pool, *told)).lower()


def node_document(head: Head, view: NodeView) -> Document:
    """One node as lists show it. Times are unix seconds (`steady_time`), the price is $/h."""
    node, books = view.node, head.ledger.get(view.node.id)
    connected = _is_connected(books)
    return {
        "id": node.id,
        "pool": node.pool,
        "provider": _provider(head, node),
        "role": node.role,
        "state": node.state.value,
        "instance_id": node.instance_id,
        "instance_type": node.offer.instance_type,
        "market": node.offer.market,
        "zone": node.offer.zone,
        "address": _address(node, books),
        "resources": view.total.to_dict(),
        "free": view.free.to_dict(),
        "owner": books.owner if books else "",
        "since": node.since,
        "created": node.created,
        **_why(head, view.node, connected),
        "generation": node.generation,
        "price_per_hour": node.price,
        "connected": connected,
        "heard": view.heartbeat,
        "idle_since": view.idle_since,
        "drain": view.drain,
        "drain_by": node.drain_by,
        "engine": books.engine.state if books else "off",
        "preparing": head.preparing.document(node),
    }


def _provider(head: Head, node: Node) -> str:
    """That of its pool; the cluster's own for a pool that has left the spec."""
    spec = head.config.spec
    return spec.kind_of(next((pool for pool in spec.pools if pool.name == node.pool), None)).name


def node_detail(head: Head, view: NodeView) -> Document:
    """What lists show of it, its story, its facts, the tasks on it, what the engine uses there (which may run something that
    uses nothing: see `engine_idle`), and what its setup printed."""
    books = head.ledger.get(view.node.id)
    return {
        **node_document(head, view),
        "story": head.journal.story(view.node.id),
        "facts": books.facts if books else {},
        "use": books.use if books else {},
        "mounts": head.preparing.mounts_of(view.node),
        "running": sorted(books.holdings) if books else [],
        "jobs": _jobs_on(head, books) if books else [],
        "engine_uses": books.engine.used.to_dict() if books else {},
        "engine_idle": books is None or books.engine.state != "ready" or books.engine.idle,
        "output": head.preparing.output(view.node.id),
    }


def _jobs_on(head: Head, books: NodeLedger) -> list[Document]:
    """What each task there is of, and what it holds."""
    found: list[Document] = []
    for task, holding in sorted(books.holdings.items()):
        job = head.book.jobs.get(split_task(task)[0])
        held = {"task": task, "resources": holding.resources.to_dict(), "since": holding.since}
        found.append({**held, "id": job.id if job else "", "name": job.name if job else ""})
    return found


def _is_connected(books: NodeLedger | None) -> bool:
    return bool(books and books.connected)


def _address(node: Node, books: NodeLedger | None) -> str:
    return books.address if books and books.address else node.address


def _why(head: Head, node: Node, connected: bool) -> Document:
    """The reason for its state; what made it ready says little once nobody hears of it."""
    if connected or node.state not in JOINED_STATES:
        return {"reason": node.reason, "code": node.code}
    pool = next((pool for pool in head.config.spec.pools if pool.name == node.pool), None)
    reason = unheard(dead_after(pool.orphan_timeout) if pool else ANY_POOL.dead_after)
    return {"reason": reason.text, "code": reason.code}
