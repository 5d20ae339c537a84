"""A model of Karpenter: batched pods, first-fit decreasing onto node claims, the cheapest type that holds a claim.

From its documentation and source (v1): pods are batched for 1 s of silence, 10 s at most; sorted by CPU and memory, large
first; each goes to an existing node, else to a claim of this round, else to a new claim of the first node pool that can
hold it. A claim keeps every instance type that still holds its pods and is launched with the cheapest offering; one that
is refused is not tried for 3 minutes. Empty nodes are removed after 15 s, looked for every 10 s, at most 10 % of a pool
at a time. Pods of jobs are marked as not to be disrupted, as batch users do, so nothing that runs is moved; ranks of a gang
are pods of their own, which Karpenter knows nothing about.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from clusterctl.core.errors import ProviderError
from clusterctl.core.model import Action, Drain, Launch, NodeState, NodeView, Offer, Plan, Reason, Shape
from clusterctl.core.resources import Resources
from clusterctl.core.scheduling.rooms import Room, Scale, copies, take
from clusterctl.core.scheduling.selectors import accepts, kind_of_node, kind_of_offer
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

_SILENCE, _LONGEST_BATCH = 1.0, 10.0
_UNAVAILABLE = 180.0  # its cache of offerings that were out
_REGISTRATION = 900.0
_POLL, _EMPTY_FOR = 10.0, 15.0
_BUDGET = 0.10


@dataclass
class _Claim:
    """A node of this round: `offers` are those that can hold all its `pods`, one resource sum for them."""

    pool: str
    offers: list[Offer]
    pods: int = 0
    wanted: Resources = field(default_factory=Resources)


class Karpenter(QuietPolicy):
    name = "karpenter"

    def __init__(self) -> None:
        self._unavailable: dict[str, float] = {}
        self._first: float | None = None

    def due(self, now: float) -> float:
        """Once nothing new came for a second, ten seconds after the first news at the latest."""
        if self._first is None:
            self._first = now
        return min(now + _SILENCE, self._first + _LONGEST_BATCH)

    def refused(self, offer: Offer, error: ProviderError, now: float) -> None:
        del error
        self._unavailable[offer.key] = now + _UNAVAILABLE

    def decide(self, situation: Situation) -> Plan:
        """Packs what waits onto nodes and new claims, and ends empty nodes."""
        self._first = None
        now = situation.now
        actions = settle(situation, _REGISTRATION)
        nodes = usable_nodes(situation, actions)
        self._have = counted(situation, actions)
        claims, used, short = self._pack(situation, nodes)
        launches = self._launch(situation, claims)
        empties, wake = self._empty_nodes(situation, nodes, used)
        wake.extend(boots_end(situation, _REGISTRATION))
        if short:
            wake.extend(until for until in self._unavailable.values())
        return Plan((*actions, *empties, *launches), tuple(unfit(situation)), wake_at=earliest(wake, now))

    # ------------------------------------------------------------ packing

    def _pack(self, situation: Situation, nodes: list[NodeView]) -> tuple[list[_Claim], set[str], bool]:
        """Claims for what does not fit on `nodes`; ids of the nodes that pods were put on; whether anything is short."""
        pods: dict[Shape, int] = {}
        for demand in situation.demand:
            for shape, count in demand.bundles:
                pods[shape] = pods.get(shape, 0) + count * demand.count
        scale = Scale.of(pods)
        rooms: dict[str, Room] = {v.node.id: scale.room_beside(v.total, v.free, v.work) for v in nodes}
        kinds = {v.node.id: kind_of_node(v, frozenset()) for v in nodes}
        used: set[str] = set()
        claims: list[_Claim] = []
        short = False
        for shape in sorted(pods, key=_size, reverse=True):
            left = pods[shape]
            need = scale.need(shape.resources)
            for view in nodes:
                node_id = view.node.id
                fit = min(left, copies(rooms[node_id], need, scale.gpu)) if accepts(kinds[node_id], shape) else 0
                if fit:
                    rooms[node_id] = take(rooms[node_id], need, fit, scale.gpu)
                    used.add(node_id)
                    left -= fit
                if not left:
                    break
            while left:
                if not self._claim(situation, claims, shape):
                    short = True
                    break
                left -= 1
        return claims, used, short

    def _claim(self, situation: Situation, claims: list[_Claim], shape: Shape) -> bool:
        """Puts one pod on a claim of this round (the one with the fewest pods first) or on a new one."""
        for claim in sorted(claims, key=lambda c: c.pods):
            wanted = claim.wanted + shape.resources
            still = [o for o in claim.offers if wanted.fits_in(o.resources)]
            if still and _accepts(situation, still[0], shape):
                claim.offers, claim.wanted = still, wanted
                claim.pods += 1
                return True
        limit = situation.limits.nodes
        for pool in situation.pools:
            if self._have.get(pool.name, 0) >= pool.max or (limit is not None and sum(self._have.values()) >= limit):
                continue
            offers = [
                o
                for o in situation.offers
                if o.pool == pool.name
                and self._unavailable.get(o.key, 0.0) <= situation.now
                and shape.resources.fits_in(o.resources)
                and _accepts(situation, o, shape)
            ]
            if offers:
                claims.append(_Claim(pool.name, offers, 1, shape.resources))
                self._have[pool.name] = self._have.get(pool.name, 0) + 1
                return True
        return False

    def _launch(self, situation: Situation, claims: list[_Claim]) -> list[Launch]:
        names = Names(situation)
        launches: list[Launch] = []
        for claim in claims:
            cheapest = min(claim.offers, key=lambda o: (o.price, o.key))
            launches.append(names.launch(cheapest, Reason("pods", f"a claim for {claim.pods} pods")))
        for pool in situation.pools:
            mine = [o for o in situation.offers if o.pool == pool.name]
            mine = [o for o in mine if self._unavailable.get(o.key, 0.0) <= situation.now]
            for _ in range(pool.min - self._have.get(pool.name, 0) if mine else 0):
                best = min(mine, key=lambda o: (o.price, o.key))
                launches.append(names.launch(best, Reason("min", f"pool {pool.name} keeps {pool.min}")))
        return launches

    # ------------------------------------------------------------ letting go

    def _empty_nodes(
        self, situation: Situation, nodes: list[NodeView], used: set[str]
    ) -> tuple[list[Action], list[float]]:
        """Empty nodes to remove now, within the budget, and when to look again."""
        now = situation.now
        ends: list[Action] = []
        wake: list[float] = []
        for pool in situation.pools:
            mine = [v for v in nodes if v.node.pool == pool.name]
            empty = [v for v in mine if _is_empty(v) and v.node.id not in used]
            empty.sort(key=lambda v: (v.idle_since or 0.0, v.node.id))
            removable = min(math.ceil(len(mine) * _BUDGET), max(0, len(mine) - pool.min))
            for view in empty:
                ripe = _next_poll((view.idle_since or 0.0) + _EMPTY_FOR)
                if ripe > now:
                    wake.append(ripe)
                elif removable > 0:
                    removable -= 1
                    ends.append(Drain(view.node.id, Reason("empty", "it is empty")))
                elif len(mine) > pool.min:
                    wake.append(_next_poll(now + 0.001))
        return ends, wake


def _size(shape: Shape) -> tuple[float, float, float, str]:
    amounts = shape.resources
    return amounts.get("CPU"), amounts.get("memory"), amounts.get("GPU"), str(shape)


def _accepts(situation: Situation, offer: Offer, shape: Shape) -> bool:
    pool = next(p for p in situation.pools if p.name == offer.pool)
    return accepts(kind_of_offer(offer, pool, frozenset(key for key, _ in shape.selectors)), shape)


def _is_empty(view: NodeView) -> bool:
    return view.node.state is NodeState.READY and view.idle_since is not None and not view.work


def _next_poll(time: float) -> float:
    return math.ceil(time / _POLL) * _POLL
