"""The nodes of one plan as places for work: present ones that stay, and those that the plan launches."""

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
from clusterctl.core.scheduling.free_capacity import Floor, Seat, Tier
from clusterctl.core.scheduling.reservations import QUEUED
from clusterctl.core.scheduling.rooms import Room, Scale, take
from clusterctl.core.scheduling.selectors import Kind, accepts, kind_of_node, kind_of_offer


@dataclass
class Spot:
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


class Site:
    """Spots, and the floor laid out of them. Spots keep their number for the whole plan."""

    def __init__(
        self, policy: Policy, state: State, views: Sequence[NodeView], now: float, kept: Mapping[str, str]
    ) -> None:
        """`kept`: node id -> the demand whose starving request keeps it."""
        self.uid = state.uid
        self.kept = kept
        self.pools: dict[str, Pool] = {pool.name: pool for pool in state.pools}
        self.spots: list[Spot] = []
        self._next = _next_numbers(state)
        self._stopped: dict[str, list[NodeView]] = {}  # by offer
        asleep = [v for v in views if v.node.state is NodeState.STOPPED and is_current(v, self.pools)]
        for view in sorted(asleep, key=lambda v: v.node.since, reverse=True):  # the one stopped last comes first
            self._stopped.setdefault(view.node.offer.key, []).append(view)
        for view in views:
            tier = tier_of(view, policy, now)
            if tier is not None and view.node.pool in self.pools:
                self.spots.append(Spot(view.node.id, view.node.offer, tier, view))

    def add_launch(self, offer: Offer, reason: Reason) -> int:
        """A node to be launched gets its id here, once for all; the number of its spot is returned. A stopped node of the
        same offer is started instead."""
        if waiting := self._stopped.get(offer.key):
            node = waiting.pop(0).node
            self.spots.append(Spot(node.id, offer, Tier.NEW, reason=reason, stopped=node.instance_id))
            return len(self.spots) - 1
        number = self._next.get(offer.pool, 1)
        self._next[offer.pool] = number + 1
        self.spots.append(Spot(f"{offer.pool}-{number}", offer, Tier.NEW, reason=reason))
        return len(self.spots) - 1

    def lay(self, scale: Scale, keys: frozenset[str], largest: Iterable[Offer], *, in_total: bool) -> None:
        """Lays the floor anew on a scale of resources; `in_total` ignores what is in use (for standing requests)."""
        self.scale, self.keys = scale, keys
        bags = [offer.resources for offer in largest] + [_total(spot) for spot in self.spots]
        most = tuple(max((bag.units.get(name, 0) for bag in bags), default=0) or 1 for name in scale.names)
        self.floor = Floor(scale, most)
        self.kinds: list[Kind] = []
        for number in range(len(self.spots)):
            self.put([number], (), in_total=in_total)

    def put(self, numbers: Sequence[int], contents: Sequence[tuple[Shape, int]], *, in_total: bool = True) -> None:
        """Puts equal spots on the floor, with what each of them already holds."""
        spot = self.spots[numbers[0]]
        view = spot.view
        if view is None:
            kind = kind_of_offer(spot.offer, self.pools[spot.offer.pool], self.keys)
        else:
            kind = kind_of_node(view, self.keys)
            if spot.node_id in self.kept:
                kind = replace(kind, kept_for=self.kept[spot.node_id])
        if kind not in self.kinds:
            self.kinds.append(kind)
        room = self._room(spot, in_total)
        for shape, n in contents:
            room = take(room, self.scale.need(shape.resources), n, self.scale.gpu)
        self.floor.add(numbers, kind, room, spot.tier, "GPU" in _total(spot).units)

    def _room(self, spot: Spot, in_total: bool) -> Room:
        view = spot.view
        if view is None or in_total or spot.tier is Tier.PENDING:
            return self.scale.room(_total(spot))
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
            and (anywhere or not kind.kept_for or kind.kept_for == demand.id)
        ]
        need = self.scale.need(shape.resources)
        return self.floor.pack(need, kinds, count, distinct=distinct, avoid=avoid, spare_gpus=spare_gpus)

    def buys_or_awaits(self) -> bool:
        """Whether any node is coming up, or to be launched by this plan."""
        return any(spot.tier >= Tier.PENDING for spot in self.spots)

    def launches(self) -> list[Launch | Start]:
        """The launches and starts, in the order of their spots' making."""
        found: list[Launch | Start] = []
        for spot in self.spots:
            if spot.stopped and spot.reason is not None:
                ids = tuple(spot.demand_ids)
                found.append(Start(spot.node_id, spot.stopped, spot.offer, spot.reason, ids))
            elif spot.view is None and spot.reason is not None:
                pool = self.pools[spot.offer.pool]
                token = launch_token(self.uid, spot.node_id, 1)
                ids = tuple(spot.demand_ids)
                launch = Launch(spot.node_id, 1, token, spot.offer, pool.role, pool.spec_hash, spot.reason, ids)
                found.append(launch)
        return found


def _total(spot: Spot) -> Resources:
    return spot.offer.resources if spot.view is None else spot.view.total


def _next_numbers(state: State) -> dict[str, int]:
    """Pool -> number of its next node; never one that a known record has or had."""
    numbers = dict(state.next_number)
    for view in state.nodes:
        pool, _, suffix = view.node.id.rpartition("-")
        if suffix.isdigit():
            numbers[pool] = max(numbers.get(pool, 1), int(suffix) + 1)
    return numbers
