"""What a node costs: by the Pricing API, the spot history or the catalogue, each with its source and date."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
from clusterctl_providers.aws.offers import PRICING, SPOT_HISTORY

from tests.aws.stage import BOTH, Stage, pool
from tests.cloud.aws.cloud import AwsCloud

TODAY = datetime.now(timezone.utc).date().isoformat()


@pytest.fixture
def stage(cloud: AwsCloud, tmp_path: Path) -> Iterator[Stage]:
    place = Stage(tmp_path, cloud, [pool(instances=["t3.micro", "m5.large"], market=BOTH)])
    yield place
    place.close()


def test_the_price_is_that_of_linux_on_shared_hardware_in_this_region_on_demand(stage: Stage, cloud: AwsCloud) -> None:
    """The price list has one type dozens of times: other systems, licences, tenancies, reservations and regions."""
    cloud.world.prices = {"t3.micro": 0.0111, "m5.large": 0.099}
    offers = [o for o in stage.provider.offers(stage.pools[0]) if o.market == "on-demand"]
    assert {(o.instance_type, o.price) for o in offers} == {("t3.micro", 0.0111), ("m5.large", 0.099)}
    assert {(o.price_source, o.price_date) for o in offers} == {(PRICING, TODAY)}


def test_another_region_has_its_own_prices(stage: Stage, cloud: AwsCloud) -> None:
    cloud.world.prices = {"t3.micro": 0.01}
    of = stage.open(region="eu-west-1").offers(pool(instances=["t3.micro"]))
    assert {(o.price, o.region) for o in of} == {(0.009, "eu-west-1")}


def test_spot_prices_are_those_of_each_zone_by_the_history(stage: Stage, cloud: AwsCloud) -> None:
    cloud.world.spot_prices = {"t3.micro": 0.003}
    spot = {
        o.zone: o for o in stage.provider.offers(stage.pools[0]) if (o.market, o.instance_type) == ("spot", "t3.micro")
    }
    assert [spot[f"us-east-1{letter}"].price for letter in "abc"] == pytest.approx([0.003, 0.0033, 0.0036])
    assert (spot["us-east-1a"].price_source, spot["us-east-1a"].price_date) == (SPOT_HISTORY, TODAY)
    first = stage.provider.offers(stage.pools[0])[0]
    assert (first.zone, first.market) == ("us-east-1a", "spot"), "the cheapest goes first"


def test_where_the_price_list_may_not_be_read_the_catalogue_is_taken_with_its_own_date(
    stage: Stage, cloud: AwsCloud
) -> None:
    cloud.world.denied = {"pricing:GetProducts", "ec2:DescribeSpotPriceHistory"}
    offers = stage.provider.offers(stage.pools[0])
    shipped = {(o.instance_type, o.market): o for o in stage.provider.catalogue_offers(stage.pools[0])}
    assert offers and all(o.price == shipped[o.instance_type, o.market].price > 0 for o in offers)
    assert all((o.price_source, o.price_date) == _source(shipped[o.instance_type, o.market]) for o in offers)
    assert {o.price_source for o in offers if o.market == "spot"} == {"estimate"}
    assert cloud.world.actions().count("pricing:GetProducts") == 1, "asked once, not for every type"


def test_prices_are_asked_for_once_an_hour(stage: Stage, cloud: AwsCloud) -> None:
    cloud.world.prices = {"t3.micro": 0.0111, "m5.large": 0.099}
    for _ in range(3):
        stage.provider.offers(stage.pools[0])
    asked = cloud.world.actions()
    assert asked.count("pricing:GetProducts") == 2 and asked.count("ec2:DescribeSpotPriceHistory") == 1


def _source(offer: object) -> tuple[str, str]:
    return getattr(offer, "price_source", ""), getattr(offer, "price_date", "")
