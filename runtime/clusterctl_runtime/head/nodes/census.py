"""How many nodes there are of each kind, counted in one look at all of them; and the few that a summary names."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from clusterctl.core.model import Node, NodeState, NodeView, by_number
from clusterctl.core.upkeep import JOINED_STATES
from clusterctl_runtime.head.nodes.ledger import Ledger
from clusterctl_runtime.head.nodes.preparing import Preparing

NAMED = 30  # nodes that a summary of the cluster names: of more, those that need a look first
_TROUBLE = frozenset({NodeState.FAILED, NodeState.QUARANTINED})
NOT_PAID = frozenset({NodeState.PLANNED, NodeState.GONE})


@dataclass
class PoolCensus:
    """`price`: $/h. `in_service`: take work now, which is more than to be ready (see `is_in_service`); `preparing`: are ready
    and take changed files or setup, or failed at it."""

    states: Counter[NodeState] = field(default_factory=Counter[NodeState])
    markets: Counter[str] = field(default_factory=Counter[str])
    price: float = 0.0
    in_service: int = 0
    preparing: int = 0


@dataclass
class Census:
    """`per_hour`: $/h of what was asked for. `pressing`: (urgency, node) of all that are neither in service nor at rest."""

    states: Counter[NodeState] = field(default_factory=Counter[NodeState])
    per_hour: float = 0.0
    pressing: list[tuple[int, NodeView]] = field(default_factory=list[tuple[int, NodeView]])
    _pools: dict[str, PoolCensus] = field(default_factory=dict[str, PoolCensus])

    def pool(self, name: str) -> PoolCensus:
        """All zero where no node of that pool was counted."""
        found = self._pools.get(name)
        if found is None:
            found = self._pools[name] = PoolCensus()
        return found


def named(states: Counter[NodeState]) -> dict[str, int]:
    """In the order of a node's life, without states that no node is in."""
    return {state.value: states[state] for state in NodeState if states[state]}


def take_census(ledger: Ledger, preparing: Preparing, views: Sequence[NodeView]) -> Census:
    """`views` are of all nodes there are, the head's among them."""
    census = Census()
    for view in views:
        node = view.node
        state, price, pool = node.state, node.price, census.pool(node.pool)
        pool.states[state] += 1
        pool.markets[node.offer.market] += 1
        pool.price += price
        if state not in NOT_PAID:
            census.per_hour += price
        if state is NodeState.READY and preparing.is_taking(node):
            pool.preparing += 1
        elif state is NodeState.READY and _is_connected(ledger, node):
            pool.in_service += 1
            continue
        if state is not NodeState.STOPPED:
            census.pressing.append((_urgency(ledger, node), view))
    for pool in census._pools.values():
        census.states.update(pool.states)
    return census


def is_in_service(ledger: Ledger, preparing: Preparing, view: NodeView) -> bool:
    """Whether it takes work now: it is ready, its agent is connected (after a restart of the head, again), and it has the
    spec's files and setup as they are now."""
    node = view.node
    return node.state is NodeState.READY and _is_connected(ledger, node) and not preparing.is_taking(node)


def _is_connected(ledger: Ledger, node: Node) -> bool:
    books = ledger.get(node.id)
    return books is not None and books.connected


def _urgency(ledger: Ledger, node: Node) -> int:
    """0 in trouble, 1 not heard of, 2 on its way somewhere."""
    if node.state in _TROUBLE:
        return 0
    return 1 if node.state in JOINED_STATES and not _is_connected(ledger, node) else 2


def first_nodes(views: Sequence[NodeView], census: Census) -> list[NodeView]:
    """At most NAMED: all of so few, by pool and number; else those in trouble first, then those on their way, then any."""
    if len(views) <= NAMED:
        return sorted(views, key=_by_number)
    pressing = heapq.nsmallest(NAMED, census.pressing, key=lambda found: (found[0], _by_number(found[1])))
    chosen = [view for _, view in pressing]
    if len(chosen) < NAMED:
        known = {view.node.id for view in chosen}
        others = (view for view in views if view.node.id not in known)
        chosen += heapq.nsmallest(NAMED - len(chosen), others, key=_by_number)
    return chosen


def _by_number(view: NodeView) -> tuple[str, int, str]:
    return by_number(view.node.id)
