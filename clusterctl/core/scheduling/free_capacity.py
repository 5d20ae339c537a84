"""Free capacity: nodes that are, or will be, free for work, grouped so that cost grows with distinct rooms, not with nodes.

Invariant: every node number is in exactly one lot, and a lot's key says what is free on each of its nodes.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from clusterctl.core.resources import UNIT
from clusterctl.core.scheduling.rooms import Need, Room, Scale, copies, take
from clusterctl.core.scheduling.selectors import Kind


class Tier(IntEnum):
    """How soon a node can take work; packing uses lower tiers first."""

    READY = 0
    DRAINING = 1  # asked to drain, but it may still be called back
    PENDING = 2
    NEW = 3  # bought by this very plan


# tier, has a GPU, how much is free (tightest first), number of its kind, room: lots sorted so are in order of use
LotKey = tuple[Tier, bool, float, int, Room]


@dataclass(frozen=True)
class Seat:
    """`copies` of a shape on each of `nodes`."""

    nodes: tuple[int, ...]
    copies: int

    @property
    def total(self) -> int:
        """Copies on all its nodes together."""
        return len(self.nodes) * self.copies


@dataclass
class FreeCapacity:
    """Nodes by number in lots. `most` is the largest amount of each resource, to weigh one against another."""

    scale: Scale
    most: tuple[int, ...]
    kinds: list[Kind] = field(default_factory=list[Kind])
    keys: list[LotKey] = field(default_factory=list[LotKey])
    lots: dict[LotKey, list[int]] = field(default_factory=dict[LotKey, list[int]])
    log: list[tuple[LotKey, LotKey, list[int]]] = field(default_factory=list[tuple[LotKey, LotKey, list[int]]])
    _kind_numbers: dict[Kind, int] = field(default_factory=dict[Kind, int])

    def __post_init__(self) -> None:
        self.gpu = self.scale.gpu

    def add(self, numbers: Sequence[int], kind: Kind, room: Room, tier: Tier, has_gpu: bool) -> None:
        """Adds equal nodes."""
        kind_number = self._kind_numbers.setdefault(kind, len(self.kinds))
        if kind_number == len(self.kinds):
            self.kinds.append(kind)
        self._put(self._key(tier, has_gpu, kind_number, room), numbers)

    def pack(
        self,
        need: Need,
        kinds: Collection[Kind],
        count: int,
        *,
        distinct: bool = False,
        avoid: Collection[int] = (),
        spare_gpus: bool = False,
    ) -> list[Seat]:
        """Takes room for up to `count` copies on nodes of `kinds` and says where; undo() gives it back.

        `distinct`: at most one copy per node, and none on a node in `avoid`. `spare_gpus`: leave nodes that are not
        up yet and have a free GPU to GPU work.
        """
        seats: list[Seat] = []
        moves: list[tuple[LotKey, list[int], int]] = []
        numbers = {self._kind_numbers[kind] for kind in kinds if kind in self._kind_numbers}
        for key in self.keys:
            if count <= 0:
                break
            if key[3] not in numbers:
                continue
            each = copies(key[4], need, self.gpu)
            if each == 0 or (spare_gpus and key[0] >= Tier.PENDING and self._gpu_is_free(key)):
                continue
            nodes = self.lots[key]
            if distinct:
                each = 1
                nodes = [n for n in nodes if n not in avoid] if avoid else nodes
            full = min(len(nodes), count // each)
            if full:
                moves.append((key, nodes[:full], each))
                count -= full * each
            if count and full < len(nodes) and count < each:
                moves.append((key, nodes[full : full + 1], count))
                count = 0
        for key, nodes, each in moves:
            seats.append(Seat(tuple(nodes), each))
            self._move(key, self._key(key[0], key[1], key[3], take(key[4], need, each, self.gpu)), nodes)
        return seats

    def mark(self) -> int:
        """A point to which undo() can return."""
        return len(self.log)

    def undo(self, mark: int) -> None:
        """Gives back what was taken since `mark`."""
        while len(self.log) > mark:
            old, new, nodes = self.log.pop()
            self._take_out(new, nodes)
            self._put(old, nodes)

    def _gpu_is_free(self, key: LotKey) -> bool:
        amounts, shares = key[4]
        return key[1] and self.gpu >= 0 and (bool(shares) or amounts[self.gpu] >= UNIT)

    def _key(self, tier: Tier, has_gpu: bool, kind_number: int, room: Room) -> LotKey:
        amounts, shares = room
        free = sum(a / m for a, m in zip(amounts, self.most, strict=True)) + sum(shares) / UNIT
        return tier, has_gpu, round(free, 9), kind_number, room

    def _move(self, old: LotKey, new: LotKey, nodes: list[int]) -> None:
        self.log.append((old, new, nodes))
        self._take_out(old, nodes)
        self._put(new, nodes)

    def _put(self, key: LotKey, nodes: Sequence[int]) -> None:
        lot = self.lots.get(key)
        if lot is None:
            self.lots[key] = list(nodes)
            insort(self.keys, key)
        elif lot and nodes and lot[-1] < nodes[0]:
            lot.extend(nodes)
        else:
            lot.extend(nodes)
            lot.sort()

    def _take_out(self, key: LotKey, nodes: Sequence[int]) -> None:
        lot = self.lots[key]
        if len(nodes) == len(lot):
            del self.lots[key]
            del self.keys[bisect_left(self.keys, key)]
        else:
            gone = set(nodes)
            self.lots[key] = [n for n in lot if n not in gone]
