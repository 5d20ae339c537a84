"""Which nodes to buy for work that nothing present can take: the least $/h, then the fewest nodes.

The method is greedy by value for money. A shape's value is what one copy costs on the offer that suits it best when bought
for it alone. Each round takes the offer whose best filling is worth most per dollar, as many times over as the demand
repeats it. Worth can only fall as demand is met, so a heap with lazy re-evaluation looks at few offers per round.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from clusterctl.core.limits import Allowance
from clusterctl.core.model import Shape
from clusterctl.core.offers import Choice, waits_for_gpu
from clusterctl.core.resources import UNIT
from clusterctl.core.rooms import Need, Room, Scale, copies, take
from clusterctl.core.selectors import accepts

Contents = tuple[tuple[Shape, int], ...]


@dataclass(frozen=True)
class Purchase:
    """`count` nodes of `choice`, each bought to hold `contents`."""

    choice: Choice
    contents: Contents
    count: int


@dataclass
class Market:
    """The choices and what each shape may do with them.

    `opens[shape]`: choices that may be bought for its sake. `fits[choice]`: shapes that may use what is left on it.
    Within a pool only the market tried first is opened while it can hold the shape; a GPU is not opened for other work
    while something without one can be had.
    """

    choices: list[Choice]
    scale: Scale
    needs: dict[Shape, Need] = field(default_factory=dict[Shape, Need])
    opens: dict[Shape, list[int]] = field(default_factory=dict[Shape, list[int]])
    fits: list[list[Shape]] = field(default_factory=list[list[Shape]])
    kept_off_gpus: set[Shape] = field(default_factory=set[Shape])
    worth: dict[Shape, float] = field(default_factory=dict[Shape, float])

    @classmethod
    def of(cls, choices: Sequence[Choice], shapes: Sequence[Shape], scale: Scale) -> Market:
        self = cls(list(choices), scale, fits=[[] for _ in choices])
        for shape in shapes:
            need = self.needs[shape] = scale.need(shape.resources)
            able: list[int] = []
            for number, choice in enumerate(self.choices):
                if accepts(choice.kind, shape) and copies(choice.room, need, scale.gpu):
                    able.append(number)
                    self.fits[number].append(shape)
            self.opens[shape] = self._may_open(shape, able)
            costs = [self.choices[c].cost / copies(self.choices[c].room, need, scale.gpu) for c in self.opens[shape]]
            self.worth[shape] = min(costs, default=0.0)
        return self

    def _may_open(self, shape: Shape, able: list[int]) -> list[int]:
        if not waits_for_gpu(shape):
            without = [c for c in able if not self.choices[c].has_gpu]
            if without:
                self.kept_off_gpus.add(shape)
                able = without
        first: dict[str, int] = {}
        for number in able:
            offer = self.choices[number].offer
            first[offer.pool] = min(first.get(offer.pool, offer.rank), offer.rank)
        return [c for c in able if self.choices[c].offer.rank == first[self.choices[c].offer.pool]]

    def fill(self, number: int, left: Mapping[Shape, int]) -> tuple[Contents, float]:
        """The best filling of one empty node with what is still wanted, and its worth. Densest worth first; work that
        must not open this choice only gets what the rest leaves."""
        choice = self.choices[number]
        gpu = self.scale.gpu
        wanted = [s for s in self.fits[number] if left.get(s, 0) > 0]
        openers = [s for s in wanted if number in self.opens[s]]
        if not openers:
            return (), 0.0
        followers = [s for s in wanted if number not in self.opens[s]]
        best: tuple[Contents, float] = ((), 0.0)
        for order in self._orders(choice, openers):
            room = choice.room
            contents: list[tuple[Shape, int]] = []
            worth = 0.0
            for shape in (*order, *followers):
                if shape in self.kept_off_gpus and choice.has_gpu and _gpu_left(room, gpu):
                    continue
                need = self.needs[shape]
                n = min(copies(room, need, gpu), left[shape])
                if n:
                    room = take(room, need, n, gpu)
                    contents.append((shape, n))
                    worth += n * self.worth[shape]
            if worth > best[1] + 1e-12:
                best = (tuple(contents), worth)
        return best

    def _orders(self, choice: Choice, shapes: list[Shape]) -> list[list[Shape]]:
        share = {s: _share(self.needs[s], choice.room) for s in shapes}
        dense = sorted(shapes, key=lambda s: (-self.worth[s] / max(share[s], 1e-9), -share[s], s))
        large = sorted(shapes, key=lambda s: (-share[s], -self.worth[s], s))
        return [dense] if dense == large else [dense, large]


def _share(need: Need, room: Room) -> float:
    """The largest part that one copy takes of any resource of an empty node."""
    amounts, shares = room
    part = max((amount / amounts[index] for index, amount in need.takes), default=0.0)
    if need.share:
        devices = sum(amounts) and max(sum(shares) / UNIT, 1.0)
        part = max(part, need.share / UNIT / devices)
    return part


def _gpu_left(room: Room, gpu: int) -> bool:
    return gpu >= 0 and (room[0][gpu] > 0 or bool(room[1]))


def buy(market: Market, wanted: Mapping[Shape, int], allowance: Allowance) -> tuple[list[Purchase], dict[Shape, int]]:
    """Purchases within `allowance` (which they use up), and what is left unserved."""
    left = {shape: n for shape, n in wanted.items() if n > 0 and market.opens.get(shape)}
    unserved = {shape: n for shape, n in wanted.items() if n > 0 and not market.opens.get(shape)}
    bought: list[Purchase] = []
    heap: list[tuple[float, int]] = []
    for number in range(len(market.choices)):
        ratio = -market.fill(number, left)[1] / market.choices[number].cost
        if ratio < 0:
            heap.append((ratio, number))
    heapq.heapify(heap)
    while heap and left:
        number = heapq.heappop(heap)[1]
        choice = market.choices[number]
        contents, worth = market.fill(number, left)
        if worth <= 0:
            continue
        ratio = -worth / choice.cost
        if heap and (ratio, number) > heap[0]:
            heapq.heappush(heap, (ratio, number))
            continue
        times = min(min(left[shape] // n for shape, n in contents), allowance.most(choice.offer))
        if times <= 0:
            continue  # a limit stands in the way: this choice is out
        allowance.take(choice.offer, times)
        bought.append(Purchase(choice, contents, times))
        for shape, n in contents:
            left[shape] -= n * times
            if not left[shape]:
                del left[shape]
        heapq.heappush(heap, (ratio, number))
    return bought, left | unserved
