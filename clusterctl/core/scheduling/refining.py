"""Making a small purchase cheaper: nodes emptied into the room others have left, smaller nodes, two nodes for one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from clusterctl.core.offers import Choice
from clusterctl.core.scheduling.market import Contents, Market, Purchase
from clusterctl.core.scheduling.rooms import Room, copies, take


@dataclass
class _Bin:
    """One node of the purchase: what it holds, and what is left on it."""

    choice: Choice
    contents: Counter[int]
    room: Room


def refine(market: Market, bought: Sequence[Purchase]) -> list[Purchase]:
    """The same contents on nodes that cost no more. Every step lowers the cost, so it ends."""
    bins = [_bin(market, p.choice, Counter(dict(p.contents))) for p in bought for _ in range(p.count)]
    found = [b for b in bins if b is not None]
    if len(found) < len(bins):
        return list(bought)
    better = True
    while better:
        better = _empty_one(market, found) or _join_two(market, found)
    _shrink(market, found)
    return [Purchase(b.choice, _frozen(b.contents), 1) for b in found]


def _frozen(contents: Counter[int]) -> Contents:
    return tuple(sorted((shape, n) for shape, n in contents.items() if n))


def _bin(market: Market, choice: Choice, contents: Counter[int]) -> _Bin | None:
    """A node of `choice` with exactly these contents; None if it cannot hold them, or must not."""
    room = choice.room
    gpu = market.scale.gpu
    strangers = [shape for shape in contents if choice.has_gpu and shape in market.off_gpus]
    for shape in [s for s in contents if s not in strangers] + strangers:
        need = market.needs[shape]
        if not market.may_hold(choice, shape) or not market.may_follow(shape, choice, room):
            return None
        if copies(room, need, gpu) < contents[shape]:
            return None
        room = take(room, need, contents[shape], gpu)
    return _Bin(choice, contents, room)


def _empty_one(market: Market, bins: list[_Bin]) -> bool:
    """Removes the dearest node whose contents fit into what the others have left."""
    for leaver in sorted(bins, key=lambda b: -b.choice.cost):
        others = [b for b in bins if b is not leaver]
        moves = _spread_over(market, leaver.contents, others)
        if moves is not None:
            for target, contents, room in moves:
                target.contents, target.room = contents, room
            bins.remove(leaver)
            return True
    return False


def _spread_over(
    market: Market, contents: Counter[int], others: Sequence[_Bin]
) -> list[tuple[_Bin, Counter[int], Room]] | None:
    rooms = [b.room for b in others]
    extra: list[Counter[int]] = [Counter() for _ in others]
    gpu = market.scale.gpu
    for shape, count in sorted(contents.items(), key=lambda item: (-market.worth[item[0]], item[0])):
        need = market.needs[shape]
        left = count
        for index in sorted(range(len(others)), key=lambda i: sum(rooms[i][0])):
            choice = others[index].choice
            if not left:
                break
            if market.may_hold(choice, shape) and market.may_follow(shape, choice, rooms[index]):
                n = min(left, copies(rooms[index], need, gpu))
                if n:
                    rooms[index] = take(rooms[index], need, n, gpu)
                    extra[index][shape] += n
                    left -= n
        if left:
            return None
    return [(b, b.contents + extra[i], rooms[i]) for i, b in enumerate(others) if extra[i]]


def _join_two(market: Market, bins: list[_Bin]) -> bool:
    """Replaces two nodes by one that holds both and costs less than they do together."""
    by_cost = sorted(market.choices, key=lambda c: (c.cost, c.offer.key))
    for first, one in enumerate(bins):
        for other in bins[first + 1 :]:
            contents = one.contents + other.contents
            joined = _cheapest(market, by_cost, contents, one.choice.cost + other.choice.cost)
            if joined is not None:
                bins.remove(one)
                bins.remove(other)
                bins.append(joined)
                return True
    return False


def _shrink(market: Market, bins: list[_Bin]) -> None:
    by_cost = sorted(market.choices, key=lambda c: (c.cost, c.offer.key))
    for index, one in enumerate(bins):
        smaller = _cheapest(market, by_cost, one.contents, one.choice.cost)
        if smaller is not None:
            bins[index] = smaller


def _cheapest(market: Market, by_cost: Sequence[Choice], contents: Counter[int], below: float) -> _Bin | None:
    """The cheapest node that holds the contents, is there for the sake of one of them, and costs less than `below`."""
    for choice in by_cost:
        if choice.cost >= below - 1e-9:
            return None
        if any(market.may_open(choice, shape) for shape in contents):
            found = _bin(market, choice, contents)
            if found is not None:
                return found
    return None
