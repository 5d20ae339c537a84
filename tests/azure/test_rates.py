"""The list of retail prices, read: which rows are the price of an hour of a size on Linux, and which of several counts."""

from __future__ import annotations

from typing import Any

import pytest
from clusterctl_providers.azure.market.prices import ON_DEMAND, SPOT, rates_of

from tests.cloud.azure.retail import SPOT_SHARE, Retail, item
from tests.cloud.azure.services import Services
from tests.cloud.azure.world import World

NOW = "2026-11-29T12:00:00Z"
SIZE = "Standard_D4as_v5"
LINUX = "Virtual Machines Dasv5 Series"


def row(meter: str = "D4as v5", product: str = LINUX, rate: float = 0.172, **more: Any) -> dict[str, Any]:
    return item(SIZE, meter, product, rate, "eastus", **more)


def rate(*rows: dict[str, Any], market: str = ON_DEMAND) -> float | None:
    return rates_of(rows, NOW).get(SIZE, {}).get(market)


def test_each_size_has_its_price_on_demand_and_as_spot() -> None:
    retail = Retail(World(), Services())
    here = rates_of(retail.rows("eastus"), NOW)
    assert here.keys() == retail.rates.keys()
    for size, price in retail.rates.items():
        assert here[size] == {
            ON_DEMAND: pytest.approx(price, abs=1e-6), SPOT: pytest.approx(price * SPOT_SHARE, abs=1e-6)
        }  # fmt: skip


@pytest.mark.parametrize(
    "other",
    [
        row("D4as v5", f"{LINUX} Windows"),
        row("D4as v5 Spot", f"{LINUX} Windows"),
        row("D4as v5 Low Priority"),
        row("D4as v5 Expired"),
        row("D4as v5", "Dasv5 Series Cloud Services"),
        row("D4as v5", "Virtual Machines Dasv5 Series CloudServices"),
        row("Dasv5_Type1", "Dasv5 Series Dedicated Host"),
        row(type="Reservation", reservationTerm="3 Years"),
        row(type="DevTestConsumption"),
        row(currencyCode="EUR"),
        row(unitOfMeasure="1/Month"),
        row(unitOfMeasure="1 GB"),
        row(rate=0.0),
        row(tierMinimumUnits=100.0),
        row(effectiveStartDate="2027-01-01T00:00:00Z"),
        row(effectiveEndDate="2026-01-01T00:00:00Z"),
        {**row(), "armSkuName": ""},
        {},
    ],
    ids=lambda given: str(given.get("productName", ""))[-20:] + str(given.get("meterName", ""))[-12:],
)
def test_what_is_no_price_of_an_hour_on_linux_is_not_taken(other: dict[str, Any]) -> None:
    assert rates_of([other], NOW) == {}


def test_spot_prices_say_so_in_the_name_of_the_meter() -> None:
    found = rates_of([row(), row("D4as v5 Spot", rate=0.03)], NOW)
    assert found == {SIZE: {ON_DEMAND: 0.172, SPOT: 0.03}}


def test_a_price_of_a_hundred_hours_is_a_hundred_prices_of_one() -> None:
    assert rate(row(rate=17.2, unitOfMeasure="100 Hours")) == pytest.approx(0.172)


def test_of_two_prices_that_of_the_regions_own_meter_counts_then_the_newer_then_the_dearer_one() -> None:
    other = row(rate=0.5, isPrimaryMeterRegion=False, effectiveStartDate="2026-10-01T00:00:00Z")
    assert rate(other, row()) == rate(row(), other) == 0.172
    newer = row(rate=0.16, effectiveStartDate="2026-11-01T00:00:00Z")
    assert rate(newer, row()) == rate(row(), newer) == 0.16
    dearer = row(rate=0.19)
    assert rate(dearer, row()) == rate(row(), dearer) == 0.19
    assert rate(other) == 0.5, "better than none"
