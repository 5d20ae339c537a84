"""Which nodes to buy for work that nothing present can take: the least $/h, then the fewest nodes.

The method is greedy by value for money. A shape's value is what one copy costs on the offer that suits it best when
bought for it alone. Each round takes the offer whose best filling is worth most per dollar, as many times over as the
demand repeats it. Worth can only fall as demand is met, so a heap with lazy re-evaluation looks at few offers per round.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from clusterctl.core.limits import Allowance
from clusterctl.core.scheduling.market import Market, Purchase
from clusterctl.core.scheduling.refining import refine

SMALL = 48  # nodes up to which a purchase is tried several times and refined
ATTEMPTS = 4


def buy(
    market: Market, wanted: Mapping[int, int], allowance: Allowance, *, bargain: bool = True
) -> tuple[list[Purchase], dict[int, int]]:
    """Purchases within `allowance` (which they use up), and what is left unserved. `wanted` counts shapes by number.

    A small purchase is made several times over with other ideas of what shapes are worth, and refined; the cheapest
    wins. A large one is not: there, one node more or less hardly counts. Nor is it without `bargain`, when the question
    is only what can be served.
    """
    servable = {shape: n for shape, n in wanted.items() if n > 0 and market.opens[shape]}
    unserved = {shape: n for shape, n in wanted.items() if n > 0 and not market.opens[shape]}
    spent = allowance.copy()
    bought, left = _greedy(market, market.worth, servable, spent)
    if bargain and not left and 0 < sum(p.count for p in bought) <= SMALL:
        bought, spent = _bargain(market, servable, allowance, bought, spent)
    allowance.become(spent)
    return bought, left | unserved


def buy_apart(market: Market, wanted: Mapping[int, int], allowance: Allowance) -> tuple[list[Purchase], dict[int, int]]:
    """One node for each copy: for each shape the cheapest offer that holds it, as far as limits allow."""
    bought: list[Purchase] = []
    left: dict[int, int] = {}
    for shape, count in sorted(wanted.items()):
        for choice in market.opening(shape):
            n = min(count, allowance.most(choice.offer))
            if n > 0:
                allowance.take(choice.offer, n)
                bought.append(Purchase(choice, ((shape, 1),), n))
                count -= n
        if count:
            left[shape] = count
    return bought, left


def _bargain(
    market: Market, wanted: dict[int, int], allowance: Allowance, bought: list[Purchase], spent: Allowance
) -> tuple[list[Purchase], Allowance]:
    """The cheapest of several attempts that serve everything within the allowance; `bought` is the first."""
    best, best_spent = bought, spent
    worth = market.worth
    for attempt in range(ATTEMPTS + 1):
        if attempt == ATTEMPTS:
            bought, left = _greedy(market, market.worth_alone(), wanted, allowance.copy())
        elif attempt:
            bought, left = _greedy(market, worth, wanted, allowance.copy())
        else:
            left = {}
        if left:
            continue
        worth = _learn(worth, bought)
        refined = refine(market, bought)
        trial = allowance.copy()
        if _cost(refined) < _cost(best) - 1e-9 and _take_all(refined, trial):
            best, best_spent = refined, trial
    return best, best_spent


def _cost(bought: Sequence[Purchase]) -> float:
    return sum(purchase.choice.cost * purchase.count for purchase in bought)


def _take_all(bought: Sequence[Purchase], allowance: Allowance) -> bool:
    for purchase in bought:
        if allowance.most(purchase.choice.offer) < purchase.count:
            return False
        allowance.take(purchase.choice.offer, purchase.count)
    return True


def _learn(worth: Sequence[float], bought: Sequence[Purchase]) -> list[float]:
    """What shapes turned out to cost: the worth of those on poorly filled nodes rises, of the others falls."""
    paid: dict[int, float] = {}
    copies_bought: dict[int, int] = {}
    for purchase in bought:
        valued = sum(worth[shape] * n for shape, n in purchase.contents) or 1.0
        for shape, n in purchase.contents:
            share = purchase.choice.cost * purchase.count * worth[shape] * n / valued
            paid[shape] = paid.get(shape, 0.0) + share
            copies_bought[shape] = copies_bought.get(shape, 0) + n * purchase.count
    return [(w + paid[s] / copies_bought[s]) / 2 if s in paid else w for s, w in enumerate(worth)]


def _greedy(
    market: Market, worth: Sequence[float], wanted: Mapping[int, int], allowance: Allowance
) -> tuple[list[Purchase], dict[int, int]]:
    left = dict(wanted)
    bought: list[Purchase] = []
    heap: list[tuple[float, int]] = []
    for number in sorted(frozenset[int]().union(*(market.opens[shape] for shape in left))):
        ratio = -market.fill(number, left, worth)[1] / market.choices[number].cost
        if ratio < 0:
            heap.append((ratio, number))
    heapq.heapify(heap)
    while heap and left:
        number = heapq.heappop(heap)[1]
        choice = market.choices[number]
        contents, value = market.fill(number, left, worth)
        if value <= 0:
            continue
        ratio = -value / choice.cost
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
    return bought, left
