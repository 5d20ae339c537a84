"""A model of Ray's autoscaler v2 (as of Ray 2.60), written from its source and compared with it in the tests.

Every 5 seconds: gangs, then tasks, largest first, are packed onto the node whose utilisation score is highest: nodes that
exist or are on their way, then new ones. The score is (no GPU wasted, kinds of resources used, the smallest and the mean
of v * u^3 over the resources of the node); prices do not enter it. New nodes are queued per type and never taken back;
per round a type may launch as many as run of it already (times `upscaling_speed`, at least one), and ten launches
may be open in all. A refused launch is forgotten, so the next round asks for the same type again: only a machine that was
allocated and never came up lowers a type's priority, and that takes an hour. Idle nodes go after `idle_timeout`.

A node type of Ray is one instance type of a pool in the pool's first market. Zones are tried in turn within one launch, as
Ray's AWS provider does. Booting takes as long as for every policy, although `ray up` also installs over SSH.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from clusterctl.core.errors import ProviderError
from clusterctl.core.model import (
    Action,
    Drain,
    Launch,
    NodeState,
    NodeView,
    Offer,
    Plan,
    Pool,
    Reason,
    Shape,
)
from clusterctl.core.scheduling.selectors import accepts, kind_of_offer
from clusterctl.core.simulate.peers import (
    Names,
    QuietPolicy,
    boots_end,
    counted,
    earliest,
    settle,
    unfit,
    usable_nodes,
)
from clusterctl.core.simulate.policy import Situation

INTERVAL = 5.0
MOST_OPEN = 10  # AUTOSCALER_MAX_CONCURRENT_LAUNCHES
_ALLOCATED_TIMEOUT = 3600.0

Amounts = Mapping[str, float]
TypeName = tuple[str, str]  # pool, instance type
Score = tuple[int, int, float, float]
Requests = list[tuple[Shape, int]]


@dataclass(frozen=True)
class NodeType:
    """One entry of `available_node_types`. `offers` are its zones."""

    name: TypeName
    resources: Amounts
    offers: tuple[Offer, ...]
    pool: Pool


@dataclass
class Bin:
    """A node for packing: what is left of it, and which amounts were asked of it in this round."""

    type: NodeType
    free: dict[str, float]
    node_id: str = ""
    asked: frozenset[str] = frozenset()
    needed: bool = False

    def key(self) -> tuple[object, ...]:
        """Equal for bins that hold the same."""
        return (self.type.name, tuple(sorted(self.free.items())), self.asked)


class RayV2(QuietPolicy):
    """`upscaling_speed` 1.0 is what the cluster launcher fills in."""

    name = "ray-v2"

    def __init__(self, upscaling_speed: float = 1.0) -> None:
        self.upscaling_speed = upscaling_speed
        self._queued: dict[TypeName, int] = {}
        self._zone: dict[TypeName, int] = {}

    def due(self, now: float) -> float:
        """The next round of the loop."""
        return math.ceil(now / INTERVAL) * INTERVAL

    def due_idle(self, idle_timeout: float, now: float) -> float:
        return self.due(now + idle_timeout + 0.001)

    def refused(self, offer: Offer, error: ProviderError, now: float) -> None:
        """The next launch of the type starts with its next zone."""
        del error, now
        name = (offer.pool, offer.instance_type)
        self._zone[name] = self._zone.get(name, 0) + 1

    def decide(self, situation: Situation) -> Plan:
        """One round of Ray's autoscaler: requests into present and new nodes, then what is idle."""
        types = node_types(situation)
        actions = settle(situation, _ALLOCATED_TIMEOUT)
        views = usable_nodes(situation, actions)
        have = counted(situation, actions)
        bins = [_bin_of(view, types) for view in views if (view.node.pool, view.node.offer.instance_type) in types]
        for name, count in sorted(self._queued.items()):
            bins.extend(Bin(types[name], dict(types[name].resources)) for _ in range(count) if name in types)
            have[name[0]] = have.get(name[0], 0) + count
        self._keep_minimum(types, have, bins)
        new = schedule(situation, types, bins, have)
        for name in new:
            self._queued[name] = self._queued.get(name, 0) + 1
        idle, wake = self._idle(situation, views, {b.node_id for b in bins if b.needed})
        launches = self._promote(situation, types, views)
        wake.extend(boots_end(situation, _ALLOCATED_TIMEOUT))
        if any(self._queued.values()):
            wake.append(situation.now + INTERVAL)
        at = earliest(wake, situation.now)
        return Plan((*actions, *idle, *launches), tuple(unfit(situation)), wake_at=None if at is None else self.due(at))

    def _keep_minimum(self, types: dict[TypeName, NodeType], have: dict[str, int], bins: list[Bin]) -> None:
        """`min_workers`, which the first type of a pool carries."""
        seen: set[str] = set()
        for name, kind in types.items():
            if kind.pool.name in seen:
                continue
            seen.add(kind.pool.name)
            for _ in range(kind.pool.min - have.get(kind.pool.name, 0)):
                self._queued[name] = self._queued.get(name, 0) + 1
                have[kind.pool.name] = have.get(kind.pool.name, 0) + 1
                bins.append(Bin(kind, dict(kind.resources)))

    def _promote(self, situation: Situation, types: dict[TypeName, NodeType], views: list[NodeView]) -> list[Launch]:
        """Queued nodes that may be asked for in this round."""
        running: dict[TypeName, int] = {}
        open_launches = 0
        for view in views:
            name = (view.node.pool, view.node.offer.instance_type)
            if view.node.state is NodeState.READY:
                running[name] = running.get(name, 0) + 1
            elif not view.node.instance_id:
                open_launches += 1
        names = Names(situation)
        launches: list[Launch] = []
        for name in list(self._queued):
            wanted = max(1, math.ceil(self.upscaling_speed * max(running.get(name, 0), 1)))
            count = max(0, min(MOST_OPEN - open_launches, wanted, self._queued[name]))
            if name not in types:
                del self._queued[name]
                continue
            offers = types[name].offers
            offer = offers[self._zone.get(name, 0) % len(offers)]
            reason = Reason("demand", f"node type {offer.instance_type} scored highest")
            launches.extend(names.launch(offer, reason) for _ in range(count))
            open_launches += count
            self._queued[name] -= count
            if not self._queued[name]:
                del self._queued[name]
        return launches

    def _idle(self, situation: Situation, views: list[NodeView], needed: set[str]) -> tuple[list[Action], list[float]]:
        """Nodes idle for longer than their pool's time-out and not needed by what waits, longest idle first."""
        pools = {pool.name: pool for pool in situation.pools}
        counts: dict[str, int] = {}
        for view in views:
            counts[view.node.pool] = counts.get(view.node.pool, 0) + 1
        ends: list[Action] = []
        wake: list[float] = []
        idle = [v for v in views if v.node.state is NodeState.READY and v.idle_since is not None and not v.work]
        for view in sorted(idle, key=lambda v: (v.idle_since or 0.0, v.node.id)):
            pool = pools[view.node.pool]
            until = (view.idle_since or 0.0) + pool.idle_timeout
            if until >= situation.now:
                wake.append(until + 0.001)
            elif view.node.id not in needed and counts[pool.name] > pool.min:
                counts[pool.name] -= 1
                ends.append(Drain(view.node.id, Reason("idle", f"idle for more than {pool.idle_timeout:g} s")))
        return ends, wake


# ---------------------------------------------------------------- the scheduler


def node_types(situation: Situation) -> dict[TypeName, NodeType]:
    """The types a user of Ray would list for these pools, cheapest first; only the first market of each."""
    pools = {pool.name: pool for pool in situation.pools}
    first: dict[str, int] = {}
    for offer in situation.offers:
        first[offer.pool] = min(offer.rank, first.get(offer.pool, offer.rank))
    grouped: dict[TypeName, list[Offer]] = {}
    for offer in sorted(situation.offers, key=lambda o: (o.price, o.key)):
        if offer.pool in pools and offer.rank == first[offer.pool]:
            grouped.setdefault((offer.pool, offer.instance_type), []).append(offer)
    return {name: NodeType(name, amounts(offers[0]), tuple(offers), pools[name[0]]) for name, offers in grouped.items()}


def amounts(offer: Offer) -> dict[str, float]:
    """What Ray's launcher detects: the resources, and one `accelerator_type` where there are GPUs."""
    found = {name: float(value) for name, value in offer.resources.to_dict().items()}
    if offer.gpu_type:
        found[f"accelerator_type:{offer.gpu_type}"] = 1.0
    return found


def schedule(
    situation: Situation, types: dict[TypeName, NodeType], bins: list[Bin], have: dict[str, int]
) -> list[TypeName]:
    """Packs what waits onto `bins` (which it changes) and onto new nodes; returns the types of the new ones."""
    kinds = {name: kind_of_offer(t.offers[0], t.pool, frozenset()) for name, t in types.items()}
    allowed = {
        shape: {name for name in types if accepts(kinds[name], shape)}
        for demand in situation.demand
        for shape, _ in demand.bundles
    }
    gangs = [d for d in situation.demand if d.gang]
    gangs.sort(key=lambda d: sum(n for _, n in d.bundles), reverse=True)
    singles: Requests = [(s, n * d.count) for d in situation.demand if not d.gang for s, n in d.bundles]
    packer = Packer(types, allowed, bins, have, situation.limits.nodes)
    for gang in gangs:
        for _ in range(gang.count):
            if not packer.pack(list(gang.bundles), whole=True):
                break  # the next copy of the same gang does not fit either
    packer.pack(singles, whole=False)
    return packer.new


@dataclass
class Packer:
    """`have` counts nodes per pool, queued ones included; `new` are the types of nodes to add."""

    types: dict[TypeName, NodeType]
    allowed: dict[Shape, set[TypeName]]
    bins: list[Bin]
    have: dict[str, int]
    most_nodes: int | None

    def __post_init__(self) -> None:
        self.new: list[TypeName] = []

    def pack(self, requests: Requests, *, whole: bool) -> bool:
        """Packs the requests, largest first; with `whole`, all or nothing. True if nothing is left."""
        left = [(shape, n) for shape, n in sorted(requests, key=lambda r: request_size(r[0]), reverse=True) if n]
        before = [(b, dict(b.free), b.asked, b.needed) for b in self.bins] if whole else []
        have, new = dict(self.have), list(self.new)
        open_bins = [b for b in self.bins if self._fit_any(b, left)]
        chosen: list[Bin] = []
        while left and open_bins:
            best = self._best(open_bins, left)
            if best is None:
                break
            left = self._fill(best, left)
            open_bins.remove(best)
        while left:
            if self.most_nodes is not None and sum(self.have.values()) >= self.most_nodes:
                break
            fresh = [Bin(t, dict(t.resources)) for t in self.types.values() if self._may_add(t)]
            best = self._best(fresh, left)
            if best is None:
                break
            left = self._fill(best, left)
            chosen.append(best)
            self.have[best.type.pool.name] = self.have.get(best.type.pool.name, 0) + 1
            self.new.append(best.type.name)
        if left and whole:
            for b, free, asked, needed in before:
                b.free, b.asked, b.needed = free, asked, needed
            self.have.clear()
            self.have.update(have)
            self.new[:] = new
            return False
        self.bins.extend(chosen)
        return not left

    def _may_add(self, kind: NodeType) -> bool:
        return self.have.get(kind.pool.name, 0) < kind.pool.max

    def _fit_any(self, candidate: Bin, left: Requests) -> bool:
        return any(candidate.type.name in self.allowed[shape] and _copies(candidate.free, shape) for shape, _ in left)

    def _best(self, candidates: list[Bin], left: Requests) -> Bin | None:
        """The candidate with the highest score; the first one of equals."""
        best: tuple[Score, Bin] | None = None
        seen: set[tuple[object, ...]] = set()
        for candidate in candidates:
            key = candidate.key()
            if key in seen:
                continue
            seen.add(key)
            free, asked, served = self._try(candidate, left)
            if not served:
                continue
            score = utilisation_score(candidate.type.resources, free, asked)
            if best is None or score > best[0]:
                best = (score, candidate)
        return best[1] if best else None

    def _try(self, candidate: Bin, left: Requests) -> tuple[dict[str, float], frozenset[str], list[int]]:
        """What is left of the candidate after taking all it can, in order, and how many of each request."""
        free = dict(candidate.free)
        asked = set(candidate.asked)
        served: list[int] = []
        for shape, count in left:
            n = min(count, _copies(free, shape)) if candidate.type.name in self.allowed[shape] else 0
            for name, units in shape.resources.items if n else ():
                free[name] -= n * units / 10_000
                asked.add(name)
            served.append(n)
        return free, frozenset(asked), served if any(served) else []

    def _fill(self, best: Bin, left: Requests) -> Requests:
        best.free, best.asked, served = self._try(best, left)
        best.needed = True
        return [(shape, count - n) for (shape, count), n in zip(left, served, strict=True) if count > n]


def utilisation_score(total: Amounts, free: Amounts, asked: frozenset[str]) -> Score:
    """Ray's score of a node after packing: higher is better."""
    gpu_ok = not (total.get("GPU", 0) > 0 and "GPU" not in asked)
    matching = sum(1 for name in asked if name in total)
    by_resource = [v * ((v - free.get(name, 0.0)) / v) ** 3 for name, v in total.items() if v]
    if not by_resource:
        return (int(gpu_ok), matching, 0.0, 0.0)
    return (int(gpu_ok), matching, min(by_resource), sum(by_resource) / len(by_resource))


def request_size(shape: Shape) -> tuple[int, float, list[tuple[str, float]]]:
    """Ray's order of requests: number of resources, their sum (bytes of memory weigh most), then by name."""
    plain = [(name, units / 10_000) for name, units in shape.resources.items]
    return len(plain), sum(value for _, value in plain), plain


def _copies(free: Amounts, shape: Shape) -> int:
    return min(
        (int((free.get(name, 0.0) + 1e-9) // (units / 10_000)) for name, units in shape.resources.items),
        default=1 << 30,
    )


def _bin_of(view: NodeView, types: dict[TypeName, NodeType]) -> Bin:
    kind = types[view.node.pool, view.node.offer.instance_type]
    free = dict.fromkeys(kind.resources, 0.0)
    free.update({name: units / 10_000 for name, units in view.free.items})
    free.update({name: v for name, v in kind.resources.items() if name.startswith("accelerator_type:")})
    return Bin(kind, free, view.node.id)
