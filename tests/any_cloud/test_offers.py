"""Ways to a node: what a market tells and what it does not, whose price it is, and what was reserved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from clusterctl_providers.base import PoolRequest
from clusterctl_providers.catalog import Price
from clusterctl_providers.cloud.offers import LAST, REFUSED_FOR, Offers, Quote
from clusterctl_providers.cloud.reservations import FRESH, Reservation, Reservations

from clusterctl.core.errors import AuthFailed, NoCapacity, ProviderError, UnknownOutcome
from clusterctl.core.model import Offer
from tests.any_cloud.clock import Clock
from tests.any_cloud.requests import requests

TYPES = ["t3.micro", "t3.small"]  # the catalogue has hardware and prices of three clouds; any of them does


class Bazaar:
    """A market that says what it is told, counts what it is asked, and fails with `trouble` where that has the question."""

    provider = "aws"
    region = "us-east-1"
    head_type = "m6i.large"

    def __init__(self) -> None:
        self.places = ["us-east-1a", "us-east-1b"]
        self.list: dict[str, Price] = {}
        self.sold: dict[str, frozenset[str]] = {}
        self.bought: dict[str, frozenset[str]] = {}  # type -> the markets in which it is to be had
        self.spots: dict[str, dict[str, Quote]] = {}
        self.demand: dict[str, Quote] = {}
        self.own: dict[str, Quote] = {}  # in a market that this cloud alone has
        self.trouble: dict[str, ProviderError] = {}
        self.asked: list[str] = []

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if what.partition(" ")[0] in self.trouble:
            raise self.trouble[what.partition(" ")[0]]

    def zones(self) -> Sequence[str]:
        return self.places

    def sellers(self, types: Sequence[str]) -> Mapping[str, frozenset[str]]:
        self._ask(f"sellers {','.join(types)}")
        return {name: self.sold.get(name, frozenset(self.places)) for name in types}

    def markets(self, types: Sequence[str]) -> Mapping[str, frozenset[str]]:
        return {name: self.bought[name] for name in types if name in self.bought}

    def listed(self) -> Mapping[str, Price]:
        if "listed" in self.trouble:
            raise self.trouble["listed"]
        return self.list

    def spot(self, types: Sequence[str]) -> Mapping[str, Mapping[str, Quote]]:
        self._ask(f"spot {','.join(types)}")
        return self.spots

    def quote(self, instance_type: str, market: str) -> Quote | None:
        self._ask(f"demand {instance_type}" if market == "on-demand" else f"{market} {instance_type}")
        return self.demand.get(instance_type) if market == "on-demand" else self.own.get(instance_type)


def nothing(name: str) -> Reservation:
    raise UnknownOutcome(f"looking up {name}: no answer")


def offers_of(market: Bazaar, clock: Clock, look_up: Any = nothing) -> Offers:
    return Offers(market, Reservations(look_up, clock), clock, clock)


def pool(**spec: Any) -> PoolRequest:
    return PoolRequest("cpu", {"instances": TYPES, "market": ["spot", "on-demand"], **spec})


def keys(offers: list[Offer]) -> list[tuple[str, str, str]]:
    return [(o.market, o.instance_type, o.zone[-1]) for o in offers]


def test_offers_go_by_market_then_by_price_with_each_zones_own() -> None:
    market = Bazaar()
    market.spots = {"t3.micro": {"us-east-1b": Quote(0.001, "history", "2026-01-01")}}
    market.demand = {"t3.small": Quote(0.0001, "list", "2026-02-02")}
    found = offers_of(market, Clock()).of(pool())
    assert keys(found)[0] == ("spot", "t3.micro", "b") and found[0].price_source == "history"
    demand = [o for o in found if o.market == "on-demand"]
    assert (demand[0].instance_type, demand[0].price, demand[0].price_date) == ("t3.small", 0.0001, "2026-02-02")
    assert [o.market for o in found] == ["spot"] * 4 + ["on-demand"] * 4


def test_only_zones_with_a_network_that_sell_the_type_and_that_the_pool_wants() -> None:
    market = Bazaar()
    market.sold = {"t3.micro": frozenset({"us-east-1b"}), "t3.small": frozenset()}
    found = offers_of(market, Clock()).of(pool(zones=["us-east-1b", "us-east-1f"]))
    assert keys(found) == [("spot", "t3.micro", "b"), ("on-demand", "t3.micro", "b")]
    market.places = []
    assert offers_of(market, Clock()).of(pool()) == []


def test_a_type_is_offered_in_the_markets_only_in_which_the_cloud_sells_it() -> None:
    market = Bazaar()
    market.bought = {"t3.micro": frozenset({"on-demand"})}
    found = offers_of(market, Clock()).of(pool())
    assert {(o.instance_type, o.market) for o in found} == {
        ("t3.micro", "on-demand"),
        ("t3.small", "spot"),
        ("t3.small", "on-demand"),
    }


def test_a_list_of_the_region_takes_the_place_of_the_catalogue() -> None:
    market = Bazaar()
    market.list = {"t3.micro": Price("aws", "us-east-1", "t3.micro", 0.01, 0.002, "list", "2026-03-03")}
    found = offers_of(market, Clock()).of(pool(instances=["t3.micro"]))
    assert {(o.market, o.price, o.price_source, o.price_date) for o in found} == {
        ("spot", 0.002, "list", "2026-03-03"),
        ("on-demand", 0.01, "list", "2026-03-03"),
    }


def test_a_region_that_the_catalogue_does_not_know_has_the_lists_prices() -> None:
    market = Bazaar()
    market.region = "mars-1"
    assert offers_of(market, Clock()).of(pool()) == []
    market.list = {"t3.micro": Price("aws", "mars-1", "t3.micro", 0.01, None, "list", "2026-03-03")}
    found = offers_of(market, Clock()).of(pool())
    assert {(o.instance_type, o.region) for o in found} == {("t3.micro", "mars-1")}
    market.trouble["listed"] = UnknownOutcome("no answer")
    assert offers_of(market, Clock()).of(pool()) == []


def test_a_market_that_one_cloud_alone_has_has_prices_of_its_own() -> None:
    market = Bazaar()
    market.demand = {"t3.micro": Quote(0.01, "list", "2026-01-01")}
    market.own = {"t3.micro": Quote(0.005, "list", "2026-01-01")}
    found = offers_of(market, Clock()).of(pool(instances=["t3.micro"], market=["flex-start", "on-demand"]))
    assert {(o.market, o.price) for o in found} == {("flex-start", 0.005), ("on-demand", 0.01)}


def test_nobody_is_asked_for_prices_of_markets_that_no_pool_wants() -> None:
    market = Bazaar()
    offers_of(market, Clock()).of(pool(market=["spot"]))
    assert not [asked for asked in market.asked if asked.startswith("demand")]


@pytest.mark.parametrize("what", ["sellers", "spot", "demand"])
def test_what_a_market_does_not_tell_keeps_no_offer_away(what: str) -> None:
    market, clock = Bazaar(), Clock()
    market.trouble = {what: AuthFailed("may not")}
    offers = offers_of(market, clock)
    assert len(offers.of(pool())) == 8
    shipped = {(o.instance_type, o.market): o.price for o in offers.shipped(pool())}
    assert all(o.price == shipped[o.instance_type, o.market] for o in offers.of(pool()))


def test_where_prices_may_not_be_asked_for_one_try_serves_for_all_types_for_a_while() -> None:
    market, clock = Bazaar(), Clock()
    market.trouble = {"demand": AuthFailed("may not")}
    offers = offers_of(market, clock)
    offers.of(pool())
    offers.of(pool())
    assert market.asked.count("demand t3.micro") == 1 and "demand t3.small" not in market.asked
    clock.now += REFUSED_FOR
    market.trouble = {}
    market.demand = {"t3.micro": Quote(0.5, "list", "2026-02-02")}
    assert {o.price for o in offers.of(pool(market=["on-demand"], instances=["t3.micro"]))} == {0.5}


def test_prices_are_asked_for_once_an_hour_and_zones_once() -> None:
    market, clock = Bazaar(), Clock()
    offers = offers_of(market, clock)
    for _ in range(3):
        offers.of(pool())
    first = ["sellers t3.micro,t3.small", "spot t3.micro,t3.small", "demand t3.micro", "demand t3.small"]
    assert market.asked == first
    clock.now += LAST + 1
    offers.of(pool())
    assert market.asked == first + first[1:]


def test_a_head_that_names_nothing_gets_the_clouds_usual_type() -> None:
    market = Bazaar()
    head = PoolRequest("head", {"market": ["on-demand"]}, "head")
    assert {o.instance_type for o in offers_of(market, Clock()).of(head)} == {"m6i.large"}
    assert {o.zone for o in offers_of(market, Clock()).shipped(head)} == {"us-east-1"}


# ---------------------------------------------------------------- what was reserved

BLOCK = Reservation("r-1", "t3.micro", "us-east-1a", total=4, free=2)


def test_what_is_reserved_comes_first_for_nothing_more_and_others_after_it() -> None:
    market, clock = Bazaar(), Clock()
    offers = offers_of(market, clock, lambda name: BLOCK)
    assert offers.last == LAST
    found = offers.of(pool(reservation="r-1"))
    assert (found[0].market, found[0].price, found[0].closed) == ("reserved", 0.0, "")
    assert len(found) == 9 and offers.last == 0.0, "what is free changes from moment to moment"
    alone = offers.of(PoolRequest("cpu", {"reservation": "r-1"}))
    assert [o.market for o in alone] == ["reserved"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"starts": 2000.0}, "capacity reservation r-1 begins on 1970-01-01 00:33 UTC"),
        ({"ends": 900.0}, "capacity reservation r-1 ended on 1970-01-01 00:15 UTC"),
        ({"ends": 1500.0, "taken_before": 600.0, "kind": "block"}, "capacity block r-1 ends on 1970-01-01 00:25 UTC"),
        ({"state": "expired"}, "capacity reservation r-1 is expired"),
        ({"free": 0}, "all 4 instances of capacity reservation r-1 are in use"),
        ({"zone": "us-east-1f"}, "r-1 is in us-east-1f, where this cluster has no subnet"),
        ({"instance_type": "x9.huge"}, "x9.huge of r-1 is not known here"),
    ],
)
def test_what_stands_in_the_way_of_a_reservation_is_told_with_its_offer(change: dict[str, Any], says: str) -> None:
    changed = replace(BLOCK, **change)
    (offer,) = offers_of(Bazaar(), Clock(), lambda name: changed).of(PoolRequest("cpu", {"reservation": "r-1"}))
    assert says in offer.closed


def test_a_reservation_that_cannot_be_looked_up_is_an_offer_that_says_so_with_what_was_known_last() -> None:
    clock, answers = Clock(), [BLOCK]

    def look_up(name: str) -> Reservation:
        if not answers:
            raise UnknownOutcome("no answer")
        return answers.pop()

    offers = offers_of(Bazaar(), clock, look_up)
    only = PoolRequest("cpu", {"reservation": "r-1"})
    offers.of(only)
    clock.now += FRESH
    (offer,) = offers.of(only)
    assert (offer.instance_type, offer.closed) == ("t3.micro", "no answer")
    (unknown,) = offers_of(Bazaar(), clock).of(only)
    assert unknown.instance_type == "unknown" and "no answer" in unknown.closed


@pytest.mark.parametrize(
    ("free", "gang", "refused"), [(2, False, ["cpu-3"]), (3, False, []), (2, True, ["cpu-1", "cpu-2", "cpu-3"])]
)
def test_nodes_beyond_what_is_free_are_refused_the_last_ones_or_the_whole_gang(
    free: int, gang: bool, refused: list[str]
) -> None:
    of = Offer(
        "cpu", "t3.micro", "reserved", "us-east-1a", 0.0, offers_of(Bazaar(), Clock()).shipped(pool())[0].resources
    )
    wanted = requests(1, 2, 3, of=of, reservation="r-1", one_zone=gang)
    asked: list[str] = []

    def look_up(name: str) -> Reservation:
        asked.append(name)
        return replace(BLOCK, free=free)

    reservations = Reservations(look_up, Clock())
    beyond = reservations.beyond(wanted)
    assert [r.node_id for r in wanted if r.token in beyond] == refused
    assert all("r-1 has 2 free t3.micro, 3 are wanted" in str(error) for error in beyond.values())
    reservations.beyond(wanted)
    assert len(asked) == 2, "a launch goes by what is free now"


def test_a_reservation_of_another_type_or_zone_is_none_of_this_offer() -> None:
    reservations = Reservations(lambda name: BLOCK, Clock())
    (other,) = requests(1, reservation="r-1")
    (none,) = requests(2)
    for request in (other, none):
        with pytest.raises(NoCapacity, match="pool cpu has no reservation of big in north-a any more"):
            reservations.of(request)
