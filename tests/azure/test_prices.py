"""What a node costs: by Azure's retail prices or by the shipped catalogue, each with its source and date; where it is sold."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.market.market import VmMarket
from clusterctl_providers.azure.market.prices import SOURCE, PriceList
from clusterctl_providers.azure.market.skus import ANYWHERE, Skus
from clusterctl_providers.base import PoolRequest
from clusterctl_providers.cloud.offers import Offers
from clusterctl_providers.cloud.reservations import Reservations

from clusterctl.core.errors import ProviderError
from clusterctl.core.model import Offer
from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.retail import FACTORS, SPOT_SHARE
from tests.cloud.azure.world import REGION, SUBSCRIPTION

TODAY = datetime.now(timezone.utc).date().isoformat()
BOTH = ["spot", "on-demand"]
SMALL, LARGE, BURST = "Standard_D2as_v5", "Standard_D4as_v5", "Standard_B2s_v2"
LIST = "resourceSkus.list"


class Bourse:
    """Offers of a region, and what is asked for them."""

    def __init__(self, cloud: AzureCloud, region: str = REGION) -> None:
        self.now = 0.0
        settings = {
            "subscription": SUBSCRIPTION, "region": region, "endpoint_url": cloud.url, "calls_per_second": 500.0,
        }  # fmt: skip
        self.calls = Calls(settings, lambda seconds: None)
        self.skus = Skus(self.calls, lambda: self.now)
        self.market = VmMarket(self.calls, PriceList(settings, None, pause=lambda seconds: None), self.skus)
        self.offers = Offers(self.market, Reservations(_none), lambda: self.now)

    def of(self, *instances: str, **spec: Any) -> list[Offer]:
        return self.offers.of(PoolRequest("cpu", {"instances": list(instances), "market": BOTH, **spec}))


def _none(name: str) -> Any:
    raise AssertionError(f"nobody reserved {name}")


@pytest.fixture
def bourse(cloud: AzureCloud) -> Iterator[Bourse]:
    found = Bourse(cloud)
    yield found
    found.calls.close()


def by_market(offers: list[Offer], market: str) -> dict[str, Offer]:
    """Instance type -> offer of one of the zones."""
    return {offer.instance_type: offer for offer in offers if offer.market == market}


def zones(offers: list[Offer]) -> set[str]:
    return {offer.zone for offer in offers}


# ------------------------------------------------------------ prices


def test_prices_are_those_of_the_list_with_its_day(bourse: Bourse, cloud: AzureCloud) -> None:
    cloud.retail.rates[SMALL] = 0.07
    offers = bourse.of(SMALL)
    assert by_market(offers, "on-demand")[SMALL].price == pytest.approx(0.07)
    assert by_market(offers, "spot")[SMALL].price == pytest.approx(0.07 * SPOT_SHARE)
    assert {(o.price_source, o.price_date) for o in offers} == {(SOURCE, TODAY)}
    assert offers[0].market == "spot", "the cheapest goes first"


def test_another_region_has_its_own_prices(bourse: Bourse, cloud: AzureCloud) -> None:
    here, there = bourse.of(SMALL)[0], Bourse(cloud, "westeurope").of(SMALL)[0]
    assert there.price == pytest.approx(FACTORS["westeurope"] * here.price, rel=1e-4) and there.region == "westeurope"


def test_sizes_are_chosen_by_the_prices_of_today(bourse: Bourse, cloud: AzureCloud) -> None:
    """Not by those of the day on which the catalogue was made."""
    cloud.retail.rates["Standard_E16as_v5"] = 0.001
    pool = PoolRequest("cpu", {"resources": {"CPU": 2.0}, "market": ["on-demand"]})
    assert bourse.offers.of(pool)[0].instance_type == "Standard_E16as_v5"


def test_a_region_that_the_catalogue_does_not_know_has_offers(
    cloud: AzureCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Bourse(cloud, "northcentralus").of(SMALL) == [], "neither the catalogue nor the list has prices of it"
    monkeypatch.setitem(FACTORS, "northcentralus", 1.2)
    offers = Bourse(cloud, "northcentralus").of(SMALL)
    assert zones(offers) == {ANYWHERE} and {o.price_source for o in offers} == {SOURCE}


def test_a_size_that_the_list_lacks_has_the_shipped_price(bourse: Bourse, cloud: AzureCloud) -> None:
    del cloud.retail.rates[SMALL]
    offers = by_market(bourse.of(SMALL, LARGE), "on-demand")
    shipped = by_market(bourse.offers.shipped(PoolRequest("cpu", {"instances": [SMALL]})), "on-demand")[SMALL]
    found = offers[SMALL]
    assert (found.price, found.price_source, found.price_date) == (
        shipped.price, shipped.price_source, shipped.price_date,
    )  # fmt: skip
    assert offers[LARGE].price_source == SOURCE


def test_a_spot_price_that_the_list_lacks_is_an_estimate_by_the_lists_own(bourse: Bourse, cloud: AzureCloud) -> None:
    cloud.retail.unsold = {(SMALL, "spot")}
    found = by_market(bourse.of(SMALL), "spot")[SMALL]
    assert found.price_source == "estimate" and found.price == pytest.approx(cloud.retail.rates[SMALL] / 2)


def test_where_the_list_may_not_be_read_the_shipped_one_is_taken_with_its_own_date(
    bourse: Bourse, cloud: AzureCloud
) -> None:
    cloud.retail.closed = 403
    offers = bourse.of(SMALL, LARGE)
    pool = PoolRequest("cpu", {"instances": [SMALL, LARGE], "market": BOTH})
    shipped = {(o.instance_type, o.market): o for o in bourse.offers.shipped(pool)}
    assert offers and all(o.price == shipped[o.instance_type, o.market].price > 0 for o in offers)
    assert {(o.price_source, o.price_date) for o in offers} == {
        (o.price_source, o.price_date) for o in shipped.values()
    }
    bourse.of(SMALL)
    assert cloud.retail.asked == 1, "asked once, not for every pool"


def test_the_list_is_read_once(bourse: Bourse, cloud: AzureCloud) -> None:
    bourse.of(SMALL)
    pages = cloud.retail.asked
    for _ in range(3):
        bourse.of(SMALL, LARGE)
    assert cloud.retail.asked == pages > 1


# ------------------------------------------------------------ what is sold


def test_only_zones_that_sell_a_size_are_offered(bourse: Bourse, cloud: AzureCloud) -> None:
    unsold = {(SMALL, "1"), (LARGE, "2")}
    cloud.world.sells = lambda name, zone: (name, zone) not in unsold
    assert zones(bourse.of(SMALL)) == {"2", "3"} and zones(bourse.of(LARGE)) == {"1", "3"}


def test_a_size_that_is_closed_to_the_subscription_is_not_offered(bourse: Bourse, cloud: AzureCloud) -> None:
    cloud.world.restricted |= {SMALL, f"{LARGE}/1"}
    assert bourse.of(SMALL) == [] and zones(bourse.of(LARGE)) == {"2", "3"}
    sku = bourse.skus.of(SMALL)
    assert sku is not None and sku.closed == "NotAvailableForSubscription" and not sku.zones


def test_a_size_that_is_closed_in_every_zone_is_offered_where_azure_chooses(bourse: Bourse, cloud: AzureCloud) -> None:
    cloud.world.restricted |= {f"{SMALL}/{zone}" for zone in "123"}
    assert zones(bourse.of(SMALL)) == {ANYWHERE}
    assert bourse.of(SMALL, zones=["1", "2"]) == [], "the pool wants a zone"


def test_a_region_without_zones_has_offers_without_one(cloud: AzureCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FACTORS, "northcentralus", 1.0)
    assert zones(Bourse(cloud, "northcentralus").of(SMALL)) == {ANYWHERE}


def test_a_size_that_is_never_a_spot_machine_is_not_offered_as_one(bourse: Bourse) -> None:
    assert {o.market for o in bourse.of(BURST)} == {"on-demand"}
    assert {o.market for o in bourse.of(SMALL)} == {"spot", "on-demand"}


def test_a_size_that_the_region_does_not_list_is_not_offered(bourse: Bourse, cloud: AzureCloud) -> None:
    cloud.world.sells = lambda name, zone: name != SMALL
    assert bourse.of(SMALL) == [] and bourse.skus.of(SMALL) is None and bourse.skus.capabilities(SMALL) == {}


def test_zones_that_are_not_to_be_had_are_an_error(bourse: Bourse, cloud: AzureCloud) -> None:
    cloud.fault(LIST, status=403, code="AuthorizationFailed", times=None)
    with pytest.raises(ProviderError, match="asking which sizes eastus has"):
        bourse.of(SMALL)


def test_what_is_sold_is_believed_for_an_hour(bourse: Bourse, cloud: AzureCloud) -> None:
    assert bourse.market.sellers([SMALL, "Standard_Z9"]) == {SMALL: frozenset("123"), "Standard_Z9": frozenset()}
    bourse.market.sellers([LARGE])
    assert cloud.world.operations().count(LIST) == 1
    bourse.now += 3601
    bourse.market.sellers([LARGE])
    assert cloud.world.operations().count(LIST) == 2


def test_capabilities_are_told_as_azure_calls_them(bourse: Bourse) -> None:
    found = bourse.skus.capabilities(LARGE)
    assert found["vCPUs"] == "4" and found["CpuArchitectureType"] == "x64"
    assert bourse.skus.of(LARGE) is bourse.skus.all()[LARGE]
