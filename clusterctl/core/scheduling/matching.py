"""Demand against capacity: what is served where, what is launched for it, and what waits for which reason.

Each priority is served before the next lower one is looked at. Within one, gangs with a condition on nodes or zones
come first, one by one. Then everything else is tried together; only if limits leave some of it unserved are the
remaining gangs taken one by one, so that each is bought whole or not at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from clusterctl.core.limits import Allowance
from clusterctl.core.model import Demand, NodeState, NodeView, Offer, PassedOver, Policy, Reason, Shape, State, Wait
from clusterctl.core.offers import Choice, choices_of, usable
from clusterctl.core.order import Turn, levels, turn
from clusterctl.core.scheduling.buying import buy, buy_apart
from clusterctl.core.scheduling.candidates import Candidates
from clusterctl.core.scheduling.demand import Ask, Gang, Single, asks_of, merge, shapes_of
from clusterctl.core.scheduling.free_capacity import Seat, Tier
from clusterctl.core.scheduling.market import Market, Purchase
from clusterctl.core.scheduling.obstacles import obstacle_to
from clusterctl.core.scheduling.rooms import Scale
from clusterctl.core.scheduling.selectors import selector_keys
from clusterctl.core.waits import bundles_text, copies_of, wait_for_launch, wait_for_pending, wait_for_return

_LATE = (Tier.DRAINING, Tier.PENDING, Tier.NEW)  # work with a seat there waits for the node
STRICT_PER_PLAN = 64  # gangs with a condition on nodes or zones that one plan serves: each is tried in every zone


@dataclass
class _Claim:
    """What an ask got: seats on nodes by number, and how many bundles of each shape (by number) are still open."""

    ask: Ask
    seats: list[Seat] = field(default_factory=list[Seat])
    left: Counter[int] = field(default_factory=Counter[int])


class Matching:
    """One plan's packing: `minimum.keep_minimum`, then serve(); then read candidates, waits and wake."""

    def __init__(
        self,
        policy: Policy,
        state: State,
        staying: Sequence[NodeView],
        live: Sequence[NodeView],
        offers: Sequence[Offer],
        now: float,
        reserved: Mapping[str, str],
    ) -> None:
        """`staying` are the nodes that may serve; `live` are all that count against limits; `reserved`: node id -> demand."""
        self.state, self.now = state, now
        self.waits: list[Wait] = []
        self.wake: list[float] = []
        self.all_offers = offers
        stopped = {view.node.offer.key for view in staying if view.node.state is NodeState.STOPPED}
        self.offers, self.refused = usable(offers, state.pools, state.blocks, now, stopped)
        self.allowance = Allowance.of(policy, state, [view.node for view in live], now)
        self.candidates = Candidates(policy, state, staying, now, reserved)
        self.scale, self.keys = Scale(()), frozenset[str]()
        self.market = Market([], self.scale, [], {})
        self.markets: dict[str, Market] = {}  # by zone, for the same shapes
        self.strict_left = STRICT_PER_PLAN

    # ------------------------------------------------------------ demand

    def serve(self, demand: Sequence[Demand], *, in_total: bool) -> None:
        """Serves demands from what nodes have free, or (`in_total`) from all that they have, used or not."""
        one_zone_pools = frozenset(pool.name for pool in self.state.pools if pool.one_zone_gangs)
        asks = [ask for d in demand for ask in asks_of(d, one_zone_pools)]
        if not asks:
            return
        shapes = sorted(shapes_of(asks))
        self.scale, self.keys = Scale.of(shapes), selector_keys(set(shapes))
        choices = choices_of(self.offers, self.state.pools, self.scale, self.keys, by_zone=False)
        self.market = Market.of(choices, shapes, self.scale)
        self.markets = {}
        self.candidates.measure(self.scale, self.keys, self.offers, in_total=in_total)
        size = {shape: self._size(shape) for shape in shapes}

        def size_and_turn(ask: Ask) -> tuple[float, Turn, Shape]:
            bundles = [(ask.shape, 1)] if isinstance(ask, Single) else ask.bundles
            largest = max(bundles, key=lambda bundle: (size[bundle[0]], bundle[0]))[0]
            return -size[largest], turn(ask.demand.priority, ask.demand.since, ask.demand.id), largest

        for _, level in levels(asks, lambda ask: ask.demand.priority):
            self._serve_level(sorted(level, key=size_and_turn))

    def _size(self, shape: Shape) -> float:
        """The largest part of any resource that a copy takes; GPU work is larger than any other."""
        need = self.scale.need(shape.resources)
        part = max((amount / self.candidates.free.most[index] for index, amount in need.takes), default=0.0)
        return part + ("GPU" in shape.resources.units)

    def _serve_level(self, asks: Sequence[Ask]) -> None:
        strict = [ask for ask in asks if isinstance(ask, Gang) and (ask.distinct or ask.one_zone)]
        gangs = [ask for ask in asks if isinstance(ask, Gang) and not (ask.distinct or ask.one_zone)]
        singles = [ask for ask in asks if isinstance(ask, Single)]
        for gang in strict:
            self._serve_copies(gang)
        mark = self.candidates.free.mark()
        claims = [self._seat(ask) for ask in (*gangs, *singles)]
        allowance = self.allowance.copy()
        bought, left = buy(self.market, _sum(claim.left for claim in claims), allowance)
        if gangs and any(self.market.numbers[shape] in left for shape in shapes_of(gangs)):
            self.candidates.free.undo(mark)
            for gang in gangs:
                self._serve_copies(gang)
            claims = [self._seat(ask) for ask in singles]
            allowance = self.allowance.copy()
            bought, left = buy(self.market, _sum(claim.left for claim in claims), allowance)
        self.allowance = allowance
        self._deliver(bought, claims)
        for claim in claims:
            self._report(claim)

    def _seat(self, ask: Ask) -> _Claim:
        """Takes room for as much of the ask as present nodes, and those already bought, can hold."""
        claim = _Claim(ask)
        bundles = [(ask.shape, ask.count)] if isinstance(ask, Single) else [(s, n * ask.count) for s, n in ask.bundles]
        for shape, count in bundles:
            number = self.market.numbers[shape]
            spare = number in self.market.off_gpus
            spread = isinstance(ask, Gang) and ask.spread
            seats = self.candidates.pack(ask.demand, shape, count, distinct=True, spare_gpus=spare) if spread else []
            missing = count - sum(seat.total for seat in seats)
            seats += self.candidates.pack(ask.demand, shape, missing, spare_gpus=spare) if missing else []
            claim.seats += seats
            missing = count - sum(seat.total for seat in seats)
            if missing:
                claim.left[number] += missing
        return claim

    def _deliver(self, bought: Sequence[Purchase], claims: Sequence[_Claim]) -> None:
        """Makes launches of purchases and hands their contents to the claims, in order."""
        waiting: dict[int, list[_Claim]] = {}
        for claim in claims:
            for shape in claim.left:
                waiting.setdefault(shape, []).append(claim)
        for purchase in bought:
            offer = purchase.choice.offer
            numbers = [self.candidates.add_launch(offer, Reason("demand", "")) for _ in range(purchase.count)]
            self.candidates.put(numbers, [(self.market.shapes[s], n) for s, n in purchase.contents])
            for number in numbers:
                for shape, n in purchase.contents:
                    _hand_out(number, shape, n, waiting[shape])

    # ------------------------------------------------------------ gangs, whole or not at all

    def _serve_copies(self, gang: Gang) -> None:
        """As many copies as can be served; the rest wait. Copies that lie anywhere are tried together, the number of them
        bisected; those with a condition on nodes or zones are taken one by one, a bounded number in each plan."""
        strict = gang.distinct or gang.one_zone
        done = self._one_by_one(gang) if strict else self._together(gang)
        if strict and self.strict_left == 0 and done < gang.count:
            text = (
                f"{bundles_text(gang.bundles)}: {STRICT_PER_PLAN} gangs like it come first, the others in the next plan"
            )
            reason = Reason("next_plan", text)
            self.waits.append(Wait(gang.demand.id, gang.count - done, reason))
            self.wake.append(self.now + 1.0)
        elif done < gang.count:
            self._refuse(gang.demand, gang.count - done, self._rate_obstacle(gang) or self._gang_obstacle(gang))

    def _one_by_one(self, gang: Gang) -> int:
        most = min(gang.count, self.strict_left)
        for done in range(most):
            tried = self._try_one(replace(gang, count=1), self.allowance.for_whole())
            if tried is None:
                return done
            self._commit(tried)
            self.strict_left -= 1
        return most

    def _try_one(
        self, gang: Gang, allowance: Allowance, *, bargain: bool = True
    ) -> tuple[_Claim, list[Purchase], Allowance] | None:
        """One copy of a gang, in the zone that is best for it if it must sit in one."""
        zone = self._best_zone(gang, allowance) if gang.one_zone else None
        if gang.one_zone and not zone:
            return None
        return self._try_gang(gang, zone, allowance, bargain=bargain)

    def _rate_obstacle(self, gang: Gang) -> Reason | None:
        """Set when the launches of this minute are all that stands in the gang's way: what is left of them is held for it."""
        mark = self.candidates.free.mark()
        tried = self._try_one(replace(gang, count=1), self.allowance.for_whole(regardless=True), bargain=False)
        self.candidates.free.undo(mark)
        most = self.state.limits.launches_per_minute
        if tried is None or not most:
            return None
        needed = sum(purchase.count for purchase in tried[1])
        what = bundles_text(gang.bundles)
        when = "when enough of this minute's are left" if needed <= most else "in a minute without any other launch"
        text = (
            f"{what} is served whole or not at all: it needs {needed} launches, {most} a minute are allowed, so it gets"
        )
        self.allowance.hold_minute(what)
        return Reason("launch_rate", f"{text} them {when}", "raise limits.launches_per_minute, or wait")

    def _together(self, gang: Gang) -> int:
        """Commits the largest number of copies that can be served whole, and returns it."""
        low, high = 0, gang.count
        best: tuple[_Claim, list[Purchase], Allowance] | None = None
        while low < high:
            middle = (low + high + 1) // 2 if low else 1  # where one cannot be served, most often none can
            mark = self.candidates.free.mark()
            if self._try_gang(replace(gang, count=middle), None, self._allowed(middle), bargain=False) is None:
                high = middle - 1
            else:
                self.candidates.free.undo(mark)
                low = middle
        if low:
            best = self._try_gang(replace(gang, count=low), None, self._allowed(low))
        if best is not None:
            self._commit(best)
        return low

    def _allowed(self, copies: int) -> Allowance:
        return self.allowance.for_whole() if copies == 1 else self.allowance

    def _best_zone(self, gang: Gang, allowance: Allowance) -> str | None:
        """The zone in which the gang costs least, then needs the fewest nodes; None when it fits into none."""
        zones = {candidate.offer.zone for candidate in self.candidates.nodes} | {offer.zone for offer in self.offers}
        rated: list[tuple[float, int, str]] = []
        for zone in sorted(zones):
            mark = self.candidates.free.mark()
            tried = self._try_gang(gang, zone, allowance, bargain=False)
            self.candidates.free.undo(mark)
            if tried is not None:
                cost = sum(purchase.choice.offer.price * purchase.count for purchase in tried[1])
                rated.append((round(cost, 9), sum(purchase.count for purchase in tried[1]), zone))
        return min(rated)[2] if rated else None

    def _try_gang(
        self, gang: Gang, zone: str | None, allowance: Allowance, *, bargain: bool = True
    ) -> tuple[_Claim, list[Purchase], Allowance] | None:
        """Seats and purchases for all copies; None, and what is free as before, when they cannot all be whole."""
        mark = self.candidates.free.mark()
        claim = _Claim(gang)
        used: set[int] = set()
        for shape, n in gang.bundles:
            count = n * gang.count
            apart = gang.distinct or gang.spread
            avoid = used if gang.distinct else ()
            seats = self.candidates.pack(gang.demand, shape, count, distinct=apart, avoid=avoid, zone=zone)
            used.update(number for seat in seats for number in seat.nodes)
            missing = count - sum(seat.total for seat in seats)
            if missing and gang.spread and not gang.distinct:
                seats += self.candidates.pack(gang.demand, shape, missing, zone=zone)
                missing = count - sum(seat.total for seat in seats)
            claim.seats += seats
            if missing:
                claim.left[self.market.numbers[shape]] += missing
        allowance = allowance.copy()
        market = self.market if zone is None else self._market_in(zone)
        if gang.distinct:
            bought, left = buy_apart(market, claim.left, allowance)
        else:
            bought, left = buy(market, claim.left, allowance, bargain=bargain)
        if left:
            self.candidates.free.undo(mark)
            return None
        return claim, bought, allowance

    def _commit(self, tried: tuple[_Claim, list[Purchase], Allowance]) -> None:
        claim, bought, self.allowance = tried
        self.allowance.paced = True
        self._deliver(bought, [claim])
        self._report(claim)

    def _market_in(self, zone: str) -> Market:
        if zone not in self.markets:
            self.markets[zone] = self._make_market_in(zone)
        return self.markets[zone]

    def _make_market_in(self, zone: str) -> Market:
        offers = [offer for offer in self.offers if offer.zone == zone]
        choices = choices_of(offers, self.state.pools, self.scale, self.keys, by_zone=False)
        return Market.of(choices, self.market.shapes, self.scale)

    def _obstacle_on_one_node(self, demand: Demand) -> Reason | None:
        """Of a gang that is packed as one larger shape: said as what was asked for."""
        if not demand.gang or (len(demand.bundles) == 1 and demand.bundles[0][1] == 1):
            return None
        reason = self._obstacle(merge(demand.bundles))
        return replace(reason, text=f"{bundles_text(demand.bundles)} on one node: {reason.text}")

    def _gang_obstacle(self, gang: Gang) -> Reason:
        what = bundles_text(gang.bundles) + (" on as many nodes" if gang.distinct else "")
        for shape, count in gang.bundles:
            opens = self.market.opening(self.market.numbers[shape])
            if not opens:
                reason = self._obstacle(shape)
                return Reason(
                    reason.code, f"{what} is served whole or not at all: {reason.text}", reason.fix, reason.details
                )
            apart = 1 if gang.distinct else count
            short = all(self.allowance.most(choice.offer) < apart for choice in opens)
            found = next((r for c in opens if (r := self.allowance.obstacle(c.offer)) is not None), None)
            if found is not None or short:
                found = found or self._first_limit(opens)
                return Reason(
                    found.code, f"{what} is served whole or not at all: {found.text}", found.fix, found.details
                )
        numbers = [self.market.numbers[shape] for shape, _ in gang.bundles]
        opens = [choice for number in numbers for choice in self.market.opening(number)]
        found = self._first_limit(opens)
        text = f"{what} is served whole or not at all, and the limits allow only part of it:"
        needed, pools = self._nodes_of(gang), {choice.offer.pool for choice in opens}
        pool = self.allowance.pools[pools.pop()] if found.code == "pool_max" and len(pools) == 1 else None
        if pool is None or needed <= pool.max:
            return Reason(found.code, f"{text} with that {found.text}", found.fix, found.details)
        text, fix = (
            f"{text} it takes {needed} nodes, and pool {pool.name} may have {pool.max}",
            f"raise max of pool {pool.name}",
        )
        return Reason(found.code, text, f"{fix} from {pool.max} to {needed}", found.details)

    def _nodes_of(self, gang: Gang) -> int:
        """How many nodes it takes, of the largest that there are for each of its shapes."""
        needed = 0
        for shape, count in gang.bundles:
            opens = self.market.opening(self.market.numbers[shape])
            most = 1 if gang.distinct else max(shape.resources.count_in(choice.offer.resources) for choice in opens)
            needed += -(-count // most)
        return needed

    def _first_limit(self, opens: Sequence[Choice]) -> Reason:
        """The limit that is reached first when as many nodes as possible are taken."""
        for choice in opens:
            full = self.allowance.copy()
            full.take(choice.offer, full.most(choice.offer))
            found = full.obstacle(choice.offer)
            if found is not None:
                return found
        return Reason("no_room", "no zone or set of nodes has room for all of it now")

    # ------------------------------------------------------------ reports

    def _report(self, claim: _Claim) -> None:
        """Books what the claim got and says what of it waits."""
        ask = claim.ask
        demand = ask.demand
        nodes = self.candidates.nodes
        by_tier: dict[Tier, list[int]] = {}
        amounts: Counter[Tier] = Counter()
        for seat in claim.seats:
            for number in seat.nodes:
                nodes[number].book(demand.id)
                by_tier.setdefault(nodes[number].tier, []).append(number)
                amounts[nodes[number].tier] += seat.copies
        size = 1 if isinstance(ask, Single) else sum(n for _, n in ask.bundles)
        late = sum(amounts[tier] for tier in _LATE)
        if isinstance(ask, Gang) and late:
            copies = min(ask.count, -(-late // size))
            self._say_late(demand, bundles_text(ask.bundles), copies, by_tier)
        elif isinstance(ask, Single):
            for tier in _LATE:
                if amounts[tier]:
                    what = copies_of(ask.shape, amounts[tier])
                    self._say_late(demand, what, amounts[tier], {tier: by_tier[tier]})
            for n in claim.left.values():
                self._refuse(demand, n, self._obstacle_on_one_node(demand) or self._obstacle(ask.shape))

    def _say_late(self, demand: Demand, what: str, count: int, by_tier: dict[Tier, list[int]]) -> None:
        nodes = self.candidates.nodes
        new = [nodes[n] for n in dict.fromkeys(by_tier.get(Tier.NEW, ()))]
        back = [view for n in dict.fromkeys(by_tier.get(Tier.DRAINING, ())) if (view := nodes[n].view) is not None]
        coming = [view for n in dict.fromkeys(by_tier.get(Tier.PENDING, ())) if (view := nodes[n].view) is not None]
        if new:
            for candidate in new:
                if candidate.reason is not None and not candidate.reason.text:
                    candidate.reason = Reason("demand", f"for {what} ({', '.join(demand.refs[:3]) or demand.id})")
            launches = [(candidate.node_id, candidate.offer, bool(candidate.stopped)) for candidate in new]
            self.waits.append(wait_for_launch(demand, what, count, launches, self.now))
        elif coming:
            self.waits.append(wait_for_pending(demand, what, count, coming, self.now))
        elif back:
            self.waits.append(wait_for_return(demand, what, count, back, self.now))

    def _refuse(self, demand: Demand, count: int, reason: Reason) -> None:
        reserved = tuple(sorted(node_id for node_id, holder in self.candidates.reserved.items() if holder == demand.id))
        if reserved:
            names = ", ".join(reserved[:3]) + (f" and {len(reserved) - 3} more" if len(reserved) > 3 else "")
            reason = replace(reason, text=f"{reason.text}; it has waited for long, so nothing else starts on {names}")
        self.waits.append(Wait(demand.id, count, reason, nodes=reserved))
        self.wake_for(reason.code)

    def _obstacle(self, shape: Shape) -> Reason:
        opens = self.market.opening(self.market.numbers[shape])
        return obstacle_to(shape, opens, self.all_offers, self.refused, self.state.pools, self.allowance)

    def wake_for(self, code: str) -> None:
        """Plan again when what this obstacle stands for has loosened."""
        loosens = self.allowance.loosens_at(code)
        if loosens is not None:
            self.wake.append(loosens)
        self.wake.extend(block.until for block in self.state.blocks if block.until > self.now)

    def wanted_back(self) -> dict[str, str]:
        """Draining nodes that demand was packed onto: node id -> who wants it."""
        nodes = [candidate for candidate in self.candidates.nodes if candidate.tier is Tier.DRAINING and candidate.used]
        return {candidate.node_id: candidate.demand_ids[0] for candidate in nodes}

    def used(self) -> set[str]:
        """Ids of the nodes that some demand was packed onto."""
        return {candidate.node_id for candidate in self.candidates.nodes if candidate.used}

    def kept(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Idle nodes that demand was packed onto, each with the ids of that demand."""
        return tuple(
            (candidate.node_id, tuple(candidate.demand_ids))
            for candidate in self.candidates.nodes
            if candidate.demand_ids and candidate.view is not None and candidate.view.idle_since is not None
        )

    def passed_over(self) -> list[PassedOver]:
        """Offers that may not be used now, each with its reason."""
        return list(self.refused)


def _hand_out(number: int, shape: int, n: int, queue: list[_Claim]) -> None:
    """Gives `n` seats on candidate `number` to the claims that wait for the shape, in order."""
    while n > 0:
        claim = queue[0]
        got = min(n, claim.left[shape])
        claim.seats.append(Seat((number,), got))
        claim.left[shape] -= got
        n -= got
        if not claim.left[shape]:
            del claim.left[shape]
            queue.pop(0)


def _sum(counters: Iterable[Counter[int]]) -> Counter[int]:
    total: Counter[int] = Counter()
    for counter in counters:
        total.update(counter)
    return total
