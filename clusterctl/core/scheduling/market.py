"""What can be bought for which shape, what a copy of a shape is worth, and how one node is best filled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from clusterctl.core.model import Shape
from clusterctl.core.offers import Choice, waits_for_gpu
from clusterctl.core.scheduling.rooms import Need, Room, Scale, copies, take
from clusterctl.core.scheduling.selectors import accepts

MOST_ON_ONE = 1000  # copies that a node is thought to be good for: what needs nothing is worth something, too
Contents = tuple[tuple[int, int], ...]  # (number of a shape, copies)


@dataclass(frozen=True)
class Purchase:
    """`count` nodes of `choice`, each bought to hold `contents`."""

    choice: Choice
    contents: Contents
    count: int


@dataclass
class Market:
    """The choices and what each shape may do with them. Shapes go by their number, since numbers are cheap to look up.

    `opens[shape]`: choices that may be bought for its sake. `fits[choice]`: shapes that may use what is left on it.
    Within a pool only the market tried first is opened while it can hold the shape; a GPU is not opened for other work
    while something without one can be had.
    """

    choices: list[Choice]
    scale: Scale
    shapes: list[Shape]
    numbers: dict[Shape, int]
    needs: list[Need] = field(default_factory=list[Need])
    opens: list[frozenset[int]] = field(default_factory=list[frozenset[int]])
    fits: list[list[int]] = field(default_factory=list[list[int]])
    off_gpus: set[int] = field(default_factory=set[int])
    worth: list[float] = field(default_factory=list[float])

    @classmethod
    def of(cls, choices: Sequence[Choice], shapes: Sequence[Shape], scale: Scale) -> Market:
        """`shapes` get numbers in this order; `choices` keep theirs."""
        numbers = {shape: number for number, shape in enumerate(shapes)}
        self = cls(list(choices), scale, list(shapes), numbers, fits=[[] for _ in choices])
        for number, shape in enumerate(shapes):
            need = scale.need(shape.resources)
            able: list[int] = []
            for choice in self.choices:
                if copies(choice.room, need, scale.gpu) and accepts(choice.kind, shape):
                    able.append(choice.number)
                    self.fits[choice.number].append(number)
            opens = self._may_open(number, able)
            costs = [
                self.choices[c].cost / min(copies(self.choices[c].room, need, scale.gpu), MOST_ON_ONE) for c in opens
            ]
            self.needs.append(need)
            self.opens.append(frozenset(opens))
            self.worth.append(min(costs, default=0.0))
        return self

    def _may_open(self, shape: int, able: list[int]) -> list[int]:
        if not waits_for_gpu(self.shapes[shape]):
            without = [c for c in able if not self.choices[c].has_gpu]
            if without:
                self.off_gpus.add(shape)
                able = without
        first: dict[str, int] = {}
        for number in able:
            offer = self.choices[number].offer
            first[offer.pool] = min(first.get(offer.pool, offer.rank), offer.rank)
        return [c for c in able if self.choices[c].offer.rank == first[self.choices[c].offer.pool]]

    def may_open(self, choice: Choice, shape: int) -> bool:
        """Whether a node of `choice` may be bought for the shape's sake."""
        return choice.number in self.opens[shape]

    def may_hold(self, choice: Choice, shape: int) -> bool:
        """Whether the shape may run on a node of `choice` at all."""
        return shape in self.fits[choice.number]

    def worth_alone(self) -> list[float]:
        """What one copy costs when a node is bought for nothing else."""
        return [min((self.choices[c].cost for c in opens), default=0.0) for opens in self.opens]

    def opening(self, shape: int) -> list[Choice]:
        """The choices that may be bought for the shape's sake, in order of preference."""
        return sorted((self.choices[c] for c in self.opens[shape]), key=lambda c: (c.offer.rank, c.cost, c.offer.key))

    def may_follow(self, shape: int, choice: Choice, room: Room) -> bool:
        """Whether the shape may use `room` left on a node of `choice`, its GPUs being kept for GPU work."""
        return not (shape in self.off_gpus and choice.has_gpu and _gpu_left(room, self.scale.gpu))

    def fill(self, number: int, left: Mapping[int, int], value: Sequence[float]) -> tuple[Contents, float]:
        """The best filling of one empty node with what is still wanted, and its worth. Densest worth first; work that
        must not open this choice only gets what the rest leaves."""
        choice = self.choices[number]
        gpu = self.scale.gpu
        wanted = [s for s in self.fits[number] if s in left]
        openers = [s for s in wanted if number in self.opens[s]]
        if not openers:
            return (), 0.0
        followers = [s for s in wanted if number not in self.opens[s]]
        best: tuple[Contents, float] = ((), 0.0)
        for order in self._orders(choice, openers, value):
            room = choice.room
            contents: list[tuple[int, int]] = []
            worth = 0.0
            for shape in (*order, *followers):
                if not self.may_follow(shape, choice, room):
                    continue
                need = self.needs[shape]
                n = min(copies(room, need, gpu), left[shape])
                if n:
                    room = take(room, need, n, gpu)
                    contents.append((shape, n))
                    worth += n * value[shape]
            if worth > best[1] + 1e-12:
                best = (tuple(contents), worth)
        return best

    def _orders(self, choice: Choice, shapes: list[int], value: Sequence[float]) -> list[list[int]]:
        share = {s: _share(self.needs[s], choice.room, self.scale.gpu) for s in shapes}
        dense = sorted(shapes, key=lambda s: (-value[s] / max(share[s], 1e-9), -share[s], s))
        large = sorted(shapes, key=lambda s: (-share[s], -value[s], s))
        return [dense] if dense == large else [dense, large]


def _share(need: Need, room: Room, gpu: int) -> float:
    """The largest part that one copy takes of any resource of an empty node."""
    amounts, shares = room
    part = max((amount / amounts[index] for index, amount in need.takes), default=0.0)
    if need.share:
        part = max(part, need.share / (amounts[gpu] + sum(shares)))
    return part


def _gpu_left(room: Room, gpu: int) -> bool:
    return gpu >= 0 and (room[0][gpu] > 0 or bool(room[1]))
