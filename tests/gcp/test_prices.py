"""What a node costs: by the Cloud Billing Catalog or by the shipped one, each with its source and date; and where it is sold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.base import PoolRequest, ProviderContext
from clusterctl_providers.cloud.kept import FRESH, REFUSED_FOR
from clusterctl_providers.gcp.market.market import GceMarket
from clusterctl_providers.gcp.market.prices import ON_DEMAND, SOURCE, SPOT, PriceList
from clusterctl_providers.gcp.provider import GcpProvider

from clusterctl.core.errors import AuthFailed, ProviderError, UnknownOutcome
from clusterctl.core.model import Offer
from tests.cloud.gcp.billing import FLEX_SHARE, SPOT_SHARE
from tests.cloud.gcp.cloud import GcpCloud
from tests.cloud.gcp.world import PROJECT, REGION
from tests.gcp.parts import Parts

TODAY = datetime.now(timezone.utc).date().isoformat()
BOTH = ["spot", "on-demand"]
SKUS = "cloudbilling.services.skus.list"


@pytest.fixture
def parts(cloud: GcpCloud) -> Parts:
    return Parts(cloud)


@pytest.fixture
def provider(cloud: GcpCloud, tmp_path: Path) -> Iterator[GcpProvider]:
    found = open_provider(cloud, tmp_path)
    yield found
    found.close()


def open_provider(cloud: GcpCloud, directory: Path, region: str = REGION) -> GcpProvider:
    settings = {"project": PROJECT, "region": region, "endpoint_url": cloud.url, "calls_per_second": 500.0}
    return GcpProvider(ProviderContext("demo", "0" * 32, str(directory), settings))


def pool(*instances: str, **spec: Any) -> PoolRequest:
    return PoolRequest("cpu", {"instances": list(instances), "market": BOTH, **spec})


def by_market(offers: list[Offer], market: str) -> dict[str, Offer]:
    """Instance type -> offer of one of the zones."""
    return {offer.instance_type: offer for offer in offers if offer.market == market}


def test_prices_are_the_sum_of_what_the_catalog_has_for_the_parts(provider: GcpProvider, cloud: GcpCloud) -> None:
    cloud.billing.rates |= {"E2 Instance Core": 0.02, "E2 Instance Ram": 0.003}
    offers = provider.offers(pool("e2-standard-2"))
    on_demand, spot = by_market(offers, "on-demand")["e2-standard-2"], by_market(offers, "spot")["e2-standard-2"]
    assert on_demand.price == pytest.approx(2 * 0.02 + 8 * 0.003)
    assert spot.price == pytest.approx(SPOT_SHARE * on_demand.price)
    assert {(o.price_source, o.price_date) for o in offers} == {(SOURCE, TODAY)}
    assert offers[0].market == "spot", "the cheapest goes first"


def test_devices_that_are_attached_are_paid_for(provider: GcpProvider, cloud: GcpCloud) -> None:
    bare, two = "n1-standard-8", "n1-standard-8+nvidia-tesla-t4x2"
    offers = by_market(provider.offers(pool(bare, two)), "on-demand")
    assert offers[two].price == pytest.approx(
        offers[bare].price + 2 * cloud.billing.rates["Nvidia Tesla T4 GPU"], abs=1e-5
    )
    assert offers[two].gpu_type == "T4" and offers[two].price_source == SOURCE


def test_machines_of_flex_start_have_prices_of_their_own(provider: GcpProvider) -> None:
    offers = provider.offers(pool("g2-standard-4", market=["flex-start", "on-demand"]))
    flex, plain = by_market(offers, "flex-start")["g2-standard-4"], by_market(offers, "on-demand")["g2-standard-4"]
    assert flex.price == pytest.approx(FLEX_SHARE * plain.price, rel=1e-4) and flex.price_source == SOURCE


def test_another_region_has_its_own_prices(cloud: GcpCloud, tmp_path: Path) -> None:
    here = open_provider(cloud, tmp_path).offers(pool("e2-standard-2"))[0]
    there = open_provider(cloud, tmp_path, "europe-west4").offers(pool("e2-standard-2"))[0]
    assert there.price == pytest.approx(1.1 * here.price, rel=1e-4) and there.region == "europe-west4"


def test_a_type_of_which_the_catalog_does_not_say_all_has_the_shipped_price(
    provider: GcpProvider, cloud: GcpCloud
) -> None:
    del cloud.billing.rates["N2 Instance Ram"]
    offers = by_market(provider.offers(pool("n2-standard-4", "e2-standard-4")), "on-demand")
    shipped = by_market(provider.catalogue_offers(pool("n2-standard-4")), "on-demand")["n2-standard-4"]
    found = offers["n2-standard-4"]
    assert (found.price, found.price_source, found.price_date) == (
        shipped.price,
        shipped.price_source,
        shipped.price_date,
    )
    assert offers["e2-standard-4"].price_source == SOURCE


def test_where_the_catalog_may_not_be_read_the_shipped_one_is_taken_with_its_own_date(
    provider: GcpProvider, cloud: GcpCloud
) -> None:
    cloud.world.disabled_services.add("cloudbilling.googleapis.com")
    offers = provider.offers(pool("e2-standard-2", "n2-standard-4"))
    shipped = {
        (o.instance_type, o.market): o for o in provider.catalogue_offers(pool("e2-standard-2", "n2-standard-4"))
    }
    assert offers and all(o.price == shipped[o.instance_type, o.market].price > 0 for o in offers)
    assert {(o.price_source, o.price_date) for o in offers} == {
        (o.price_source, o.price_date) for o in shipped.values()
    }
    assert cloud.world.actions().count(SKUS) == 1, "asked once, not for every type and market"


def test_prices_are_asked_for_once(provider: GcpProvider, cloud: GcpCloud) -> None:
    cloud.billing.page = 100
    for _ in range(3):
        provider.offers(pool("e2-standard-2", "n2-standard-4"))
    pages = -(-len(list(cloud.billing.skus())) // 100)
    assert cloud.world.actions().count(SKUS) == pages > 1


def test_only_zones_that_sell_a_type_are_offered(provider: GcpProvider, cloud: GcpCloud) -> None:
    unsold = {("e2-standard-2", "us-central1-a"), ("nvidia-tesla-t4", "us-central1-b")}
    cloud.world.sells = lambda name, zone: (name, zone) not in unsold
    plain = {o.zone for o in provider.offers(pool("e2-standard-2"))}
    assert "us-central1-a" not in plain and "us-central1-b" in plain
    attached = {o.zone for o in provider.offers(pool("n1-standard-8+nvidia-tesla-t4x1"))}
    assert "us-central1-b" not in attached and "us-central1-a" in attached


def test_a_zone_that_does_not_tell_keeps_no_type_away(provider: GcpProvider, cloud: GcpCloud) -> None:
    cloud.fault("compute.machineTypes.list", status=403, code="forbidden", times=None)
    offers = provider.offers(pool("e2-standard-2"))
    assert len({offer.zone for offer in offers}) == 4


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def test_rates_are_kept_for_half_a_day_and_by_all_clusters(parts: Parts, tmp_path: Path) -> None:
    clock, asked = Clock(), lambda: parts.cloud.world.actions().count(SKUS)
    rates, day = PriceList(parts.calls, tmp_path, clock).rates(REGION)
    assert rates["E2 Instance Core"][ON_DEMAND] > rates["E2 Instance Core"][SPOT] and day == "2027-01-15"
    clock.now += FRESH - 1
    assert PriceList(parts.calls, tmp_path, clock).rates(REGION) == (rates, day) and asked() == 1
    assert (tmp_path / "gcp-rates.json").stat().st_mode & 0o777 == 0o600
    clock.now += 2
    assert PriceList(parts.calls, tmp_path, clock).rates(REGION)[0] == rates and asked() == 2


@pytest.mark.parametrize("kept", ["", "{", "[]", '{"read_at": "soon"}', '{"read_at": 1800000000, "rates": 7}'])
def test_a_file_that_cannot_be_read_is_made_anew(parts: Parts, tmp_path: Path, kept: str) -> None:
    file = tmp_path / "gcp-rates.json"
    file.write_text(kept)
    assert PriceList(parts.calls, tmp_path, Clock()).rates(REGION)[0]
    assert json.loads(file.read_text())["rates"][REGION]


def test_rates_of_the_future_are_not_believed(parts: Parts, tmp_path: Path) -> None:
    """The clock was set back, or is another machine's."""
    clock = Clock()
    PriceList(parts.calls, tmp_path, clock).rates(REGION)
    clock.now -= 60
    PriceList(parts.calls, tmp_path, clock).rates(REGION)
    assert parts.cloud.world.actions().count(SKUS) == 2


def test_a_disk_that_is_full_costs_no_price(parts: Parts, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert PriceList(parts.calls, tmp_path / "file" / "below", Clock()).rates(REGION)[0]


def test_nobody_asks_again_for_a_while_after_a_refusal(parts: Parts) -> None:
    parts.cloud.world.disabled_services.add("cloudbilling.googleapis.com")
    clock = Clock()
    prices = PriceList(parts.calls, None, clock)
    for _ in range(3):
        with pytest.raises(AuthFailed, match=r"cloudbilling\.googleapis\.com is not enabled"):
            prices.rates(REGION)
    assert parts.cloud.world.actions().count(SKUS) == 1
    parts.cloud.world.disabled_services.clear()
    clock.now += REFUSED_FOR + 1
    assert prices.rates(REGION)[0]


def test_half_of_a_list_is_no_list(parts: Parts, tmp_path: Path) -> None:
    parts.cloud.billing.page = 100
    parts.cloud.fault(SKUS, status=503, times=4)
    prices = PriceList(parts.calls, tmp_path, Clock())
    with pytest.raises(UnknownOutcome):
        prices.rates(REGION)
    assert not (tmp_path / "gcp-rates.json").exists()


def test_an_answer_that_is_not_to_be_read_is_told_as_that(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = [
        {
            "description": "E2 Instance Core running in Americas",
            "category": {"usageType": "OnDemand"},
            "pricingInfo": [{}],
        }
    ]
    monkeypatch.setattr(parts.cloud.billing, "skus", lambda: iter(broken))
    with pytest.raises(ProviderError, match="not to be read"):
        PriceList(parts.calls, None, Clock()).rates(REGION)


def test_what_is_sold_is_believed_for_an_hour(parts: Parts) -> None:
    clock = Clock()
    market = GceMarket(parts.calls, PriceList(parts.calls, None), lambda: ["us-central1-a"], clock)
    assert market.sellers(["e2-standard-2", "e9-standard-2"]) == {
        "e2-standard-2": frozenset({"us-central1-a"}),
        "e9-standard-2": frozenset(),
    }
    market.sellers(["n2-standard-4"])
    assert len(parts.methods("machineTypes")) == 1
    clock.now += 3601
    market.sellers(["n2-standard-4"])
    assert len(parts.methods("machineTypes")) == 2
