"""The view of every live node, kept: made anew only where a node's record or its books have changed.

A pass of the dispatcher and a tick of the autoscaler then cost by what has changed and by what has room, not by the fleet.
"""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from clusterctl.core.model import Labels, Node, NodeState, NodeView
from clusterctl.core.resources import Resources
from clusterctl.provision.journal.book import Journal
from clusterctl_runtime.head.nodes.ledger import Ledger, NodeLedger

AT_ONCE = 250  # views that are made anew in one turn, at some thirty microseconds each
_RESTING = frozenset({NodeState.STOPPED, NodeState.QUARANTINED})  # no agent is expected to be connected


class Likeness(NamedTuple):
    """Ready nodes of which it makes no difference to any job on which of them it starts."""

    free: Resources
    total: Resources
    labels: Labels
    offered: Labels
    role: str
    pool: str
    place: tuple[str, str]
    gpu_type: str
    market: str
    gpus: tuple[int, ...]  # that each task there has, in ten-thousandths: shares are laid onto devices


def likeness_of(view: NodeView) -> Likeness:
    """Equal for nodes that no job can tell apart."""
    node, offer = view.node, view.node.offer
    gpus = tuple(sorted(w.resources.units.get("GPU", 0) for w in view.work)) if view.total.get("GPU") else ()
    place = (offer.region, offer.zone)
    return Likeness(
        view.free,
        view.total,
        view.labels,
        offer.labels,
        node.role,
        node.pool,
        place,
        offer.gpu_type,
        offer.market,
        gpus,
    )


class Roster:
    """`open_books` gives the books of a node, new ones where it has none. Invariant: what is not in `_stale` is as the journal
    and the ledger have it, but for heartbeats, which may be some seconds older."""

    def __init__(self, journal: Journal, ledger: Ledger, open_books: Callable[[Node], NodeLedger]) -> None:
        self._journal, self._open_books = journal, open_books
        self._stale = dict.fromkeys(journal.nodes())  # added to by other threads as well
        self._views: dict[str, NodeView] = {}
        self._order: list[str] = []  # ids, sorted
        self._all: tuple[NodeView, ...] | None = ()
        self._ready: dict[Likeness, dict[str, NodeView]] = {}
        self._likeness: dict[str, Likeness] = {}  # of the nodes in `_ready`
        self._restless: set[str] = set()
        self.version = 0  # counts what has become another view
        journal.changed = ledger.changed = self._mark

    def all(self, now: float) -> tuple[NodeView, ...]:
        """Every live node, by id."""
        self._refresh(now)
        if self._all is None:
            self._all = tuple(self._views[node_id] for node_id in self._order)
        return self._all

    def get(self, node_id: str, now: float) -> NodeView | None:
        """As the planner sees it at `now`; None for a node that is gone."""
        self._refresh(now)
        return self._views.get(node_id)

    def alike(self, now: float) -> Iterator[tuple[Likeness, Collection[NodeView]]]:
        """Nodes whose state is ready, sorted into those that are alike. To be looked at before anything is awaited."""
        self._refresh(now)
        return ((likeness, views.values()) for likeness, views in self._ready.items())

    def is_quiet(self, now: float) -> bool:
        """Whether all nodes are ready and connected, or rest."""
        self._refresh(now)
        return not self._restless

    async def refreshed(self, now: float) -> None:
        """Makes most views anew that have to be, in turns: for who is going to look at all of them, and can wait."""
        while len(self._stale) > AT_ONCE:
            self._refresh(now, AT_ONCE)
            await asyncio.sleep(0)

    # ------------------------------------------------------------ inside

    def _mark(self, node_id: str) -> None:
        self._stale[node_id] = None

    def _refresh(self, now: float, most: int | None = None) -> None:
        while self._stale and most != 0:
            most = None if most is None else most - 1
            node_id = self._stale.popitem()[0]
            node = self._journal.live(node_id)
            before = self._views.get(node_id)
            if node is None:
                self._drop(node_id, before)
                continue
            books = self._open_books(node)
            view = books.view(node, now)
            books.shown = view.heartbeat or 0.0
            if before is None:
                bisect.insort(self._order, node_id)
            elif before == view:
                continue
            else:
                self._leave(node_id)
            self._views[node_id], self._all = view, None
            self.version += 1
            if node.state is NodeState.READY:
                self._likeness[node_id] = likeness = likeness_of(view)
                self._ready.setdefault(likeness, {})[node_id] = view
            settled = node.state in _RESTING or (node.state is NodeState.READY and books.connected)
            (self._restless.discard if settled else self._restless.add)(node_id)

    def _drop(self, node_id: str, before: NodeView | None) -> None:
        if before is None:
            return
        self._leave(node_id)
        del self._views[node_id]
        del self._order[bisect.bisect_left(self._order, node_id)]
        self._restless.discard(node_id)
        self._all = None
        self.version += 1

    def _leave(self, node_id: str) -> None:
        """Takes it from among the ready ones."""
        likeness = self._likeness.pop(node_id, None)
        if likeness is not None:
            alike = self._ready[likeness]
            del alike[node_id]
            if not alike:
                del self._ready[likeness]
