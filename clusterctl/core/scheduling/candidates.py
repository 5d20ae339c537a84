"""Candidates for work: the nodes of one plan, present ones that stay and those that it launches."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from clusterctl.core.model import (
    PENDING_STATES,
    Demand,
    Launch,
    NodeState,
    NodeView,
    Offer,
    Policy,
    Pool,
    Reason,
    Shape,
    Start,
    State,
    launch_token,
)
from clusterctl.core.resources import Resources
from clusterctl.core.scale_down.letting_go import draining, may_return
from clusterctl.core.scale_down.stopping import is_current
from clusterctl.core.scheduling.free_capacity import FreeCapacity, Seat, Tier
from clusterctl.core.scheduling.reservations import QUEUED
from clusterctl.core.scheduling.rooms import Room, Scale, take
from clusterctl.core.scheduling.selectors import Kind, accepts, kind_of_node, kind_of_offer


@dataclass
class Candidate:
    """A node that work can be packed onto. `view` is None for one that this plan launches for `reason`, or whose
    instance `stopped` it starts."""

    node_id: str
    offer: Offer
    tier: Tier
    view: NodeView | None = None
    reason: Reason | None = None
    demand_ids: list[str] = field(default_factory=list[str])
    used: bool = False
    stopped: str = ""

    def book(self, demand_id: str) -> None:
        """Notes for which demand it is used; each is named once."""
        self.used = True
        if demand_id not in self.demand_ids:
            self.demand_ids.append(demand_id)


def tier_of(view: NodeView, policy: Policy, now: float) -> Tier | None:
    """How soon the node takes work; None when it takes none (draining for good, announced to go, silent, failed)."""
    state = view.node.state
    if view.preempt_at is not None:
        return None
    if may_return(view):
        return Tier.DRAINING
    if draining(view):
        return None
    if state in PENDING_STATES:
        return Tier.PENDING
    silent = view.heartbeat is not None and now - view.heartbeat > policy.heartbeat_timeout
    return Tier.READY if state is NodeState.READY and not silent else None


class Candidates:
    """All of them, and what is free on each. They keep their number, the place in `nodes`, for the whole plan."""

    def __init__(
        self, policy: Policy, state: State, views: Sequence[NodeView], now: float, reserved: Mapping[str, str]
    ) -> None:
        """`reserved`: node id -> the demand whose starving request it is reserved for."""
        self.uid = state.uid
        self.reserved = reserved
        self.pools: dict[str, Pool] = {pool.name: pool for pool in state.pools}
        self.nodes: list[Candidate] = []
        self._next = _next_numbers(state)
        self._stopped: dict[str, list[NodeView]] = {}  # by offer
        asleep = [v for v in views if v.node.state is NodeState.STOPPED and is_current(v, self.pools)]
        for view in sorted(asleep, key=lambda v: v.node.since, reverse=True):  # the one stopped last comes first
            self._stopped.setdefault(view.node.offer.key, []).append(view)
        for view in views:
            tier = tier_of(view, policy, now)
            if tier is not None and view.node.pool in self.pools:
                self.nodes.append(Candidate(view.node.id, view.node.offer, tier, view))

    def add_launch(self, offer: Offer, reason: Reason) -> int:
        """A node to be launched gets its id here, once for all; its number is returned. A stopped node of the
        same offer is started instead."""
        if waiting := self._stopped.get(offer.key):
            node = waiting.pop(0).node
            self.nodes.append(Candidate(node.id, offer, Tier.NEW, reason=reason, stopped=node.instance_id))
            return len(self.nodes) - 1
        number = self._next.get(offer.pool, 1)
        self._next[offer.pool] = number + 1
        self.nodes.append(Candidate(f"{offer.pool}-{number}", offer, Tier.NEW, reason=reason))
        return len(self.nodes) - 1

    def measure(self, scale: Scale, keys: frozenset[str], largest: Iterable[Offer], *, in_total: bool) -> None:
        """Measures anew what is free, on a scale of resources; `in_total` ignores what is in use (for standing requests)."""
        self.scale, self.keys = scale, keys
        bags = [offer.resources for offer in largest] + [_total(candidate) for candidate in self.nodes]
        most = tuple(max((bag.units.get(name, 0) for bag in bags), default=0) or 1 for name in scale.names)
        self.free = FreeCapacity(scale, most)
        self.kinds: list[Kind] = []
        for number in range(len(self.nodes)):
            self.put([number], (), in_total=in_total)

    def put(self, numbers: Sequence[int], contents: Sequence[tuple[Shape, int]], *, in_total: bool = True) -> None:
        """Adds equal nodes to what is free, with what each of them already holds."""
        candidate = self.nodes[numbers[0]]
        view = candidate.view
        if view is None:
            kind = kind_of_offer(candidate.offer, self.pools[candidate.offer.pool], self.keys)
        else:
            kind = kind_of_node(view, self.keys)
            if candidate.node_id in self.reserved:
                kind = replace(kind, reserved_for=self.reserved[candidate.node_id])
        if kind not in self.kinds:
            self.kinds.append(kind)
        room = self._room(candidate, in_total)
        for shape, n in contents:
            room = take(room, self.scale.need(shape.resources), n, self.scale.gpu)
        self.free.add(numbers, kind, room, candidate.tier, "GPU" in _total(candidate).units)

    def _room(self, candidate: Candidate, in_total: bool) -> Room:
        view = candidate.view
        if view is None or in_total or candidate.tier is Tier.PENDING:
            return self.scale.room(_total(candidate))
        return self.scale.room_beside(view.total, view.free, view.work)

    def pack(
        self,
        demand: Demand,
        shape: Shape,
        count: int,
        *,
        distinct: bool = False,
        avoid: Collection[int] = (),
        zone: str | None = None,
        spare_gpus: bool = False,
    ) -> list[Seat]:
        """Takes room for up to `count` copies of a demand's shape wherever it may run."""
        anywhere = demand.source not in QUEUED
        kinds = [
            kind
            for kind in self.kinds
            if accepts(kind, shape)
            and zone in (None, kind.zone)
            and (anywhere or not kind.reserved_for or kind.reserved_for == demand.id)
        ]
        need = self.scale.need(shape.resources)
        return self.free.pack(need, kinds, count, distinct=distinct, avoid=avoid, spare_gpus=spare_gpus)

    def buys_or_awaits(self) -> bool:
        """Whether any node is coming up, or to be launched by this plan."""
        return any(candidate.tier >= Tier.PENDING for candidate in self.nodes)

    def launches(self) -> list[Launch | Start]:
        """The launches and starts, in the order in which they were decided."""
        found: list[Launch | Start] = []
        for candidate in self.nodes:
            if candidate.stopped and candidate.reason is not None:
                ids = tuple(candidate.demand_ids)
                found.append(Start(candidate.node_id, candidate.stopped, candidate.offer, candidate.reason, ids))
            elif candidate.view is None and candidate.reason is not None:
                pool = self.pools[candidate.offer.pool]
                token = launch_token(self.uid, candidate.node_id, 1)
                ids = tuple(candidate.demand_ids)
                launch = Launch(
                    candidate.node_id, 1, token, candidate.offer, pool.role, pool.spec_hash, candidate.reason, ids
                )
                found.append(launch)
        return found


def _total(candidate: Candidate) -> Resources:
    return candidate.offer.resources if candidate.view is None else candidate.view.total


def _next_numbers(state: State) -> dict[str, int]:
    """Pool -> number of its next node; never one that a known record has or had."""
    numbers = dict(state.next_number)
    for view in state.nodes:
        pool, _, suffix = view.node.id.rpartition("-")
        if suffix.isdigit():
            numbers[pool] = max(numbers.get(pool, 1), int(suffix) + 1)
    return numbers
