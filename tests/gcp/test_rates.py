"""The Cloud Billing Catalog's list, read: which prices are those of an instance's parts, and what a machine costs by them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from clusterctl_providers.gcp.market.market import shape_of
from clusterctl_providers.gcp.market.prices import FLEX_START, ON_DEMAND, SPOT, Shape, price_of, rates_of

from tests.cloud.gcp.billing import FLEX_SHARE, LOCAL_SSD, SPOT_SHARE, Billing

N2 = Shape("n2-standard-4", 4, 16)
A3 = Shape("a3-highgpu-8g", 208, 1872, "nvidia-h100-80gb", 8, 16 * 375)


def sku(description: str, usage: str = "OnDemand", nanos: int = 10**8, unit: str = "h", **more: Any) -> dict[str, Any]:
    money = {"currencyCode": "USD", "units": "0", "nanos": nanos}
    expression = {"usageUnit": unit, "tieredRates": [{"startUsageAmount": 0, "unitPrice": money}]}
    return {
        "description": description, "serviceRegions": ["us-central1"], "category": {"usageType": usage},
        "pricingInfo": [{"pricingExpression": expression}], **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def billing() -> Iterator[Billing]:
    yield Billing()


def test_a_machine_costs_the_sum_of_its_parts(billing: Billing) -> None:
    rates = rates_of(billing.skus())["us-central1"]
    on_demand = 4 * billing.rates["N2 Instance Core"] + 16 * billing.rates["N2 Instance Ram"]
    assert price_of(N2, rates, ON_DEMAND) == pytest.approx(on_demand)
    assert price_of(N2, rates, SPOT) == pytest.approx(on_demand * SPOT_SHARE)


def test_devices_and_local_disks_are_counted(billing: Billing) -> None:
    rates = rates_of(billing.skus())["us-central1"]
    plain = 208 * billing.rates["A3 Instance Core"] + 1872 * billing.rates["A3 Instance Ram"]
    devices, disks = 8 * billing.rates["Nvidia H100 80GB GPU"], 6000 * LOCAL_SSD / 730
    assert price_of(A3, rates, ON_DEMAND) == pytest.approx(plain + devices + disks)
    without = replace(A3, local_ssd_gib=0)
    assert price_of(without, rates, FLEX_START) == pytest.approx((plain + devices) * FLEX_SHARE, rel=1e-5)


def test_regions_have_prices_of_their_own(billing: Billing) -> None:
    every = rates_of(billing.skus())
    here, there = price_of(N2, every["us-central1"], ON_DEMAND), price_of(N2, every["europe-west4"], ON_DEMAND)
    assert here and there and there == pytest.approx(1.1 * here)


@pytest.mark.parametrize("word", ["Custom", "Sole Tenancy", "Reserved", "Commitment", "Calendar Mode"])
def test_what_is_no_price_of_an_hour_stands_in_the_list_and_is_not_taken(billing: Billing, word: str) -> None:
    others = [row for row in billing.skus() if word in row["description"]]
    assert others and rates_of(others) == {}


@pytest.mark.parametrize(
    ("description", "usage", "part", "market"),
    [
        ("N1 Predefined Instance Core running in Americas", "OnDemand", "N1 Predefined Instance Core", ON_DEMAND),
        ("Spot Preemptible T2A Arm Instance Ram running in Iowa", "Preemptible", "T2A Arm Instance Ram", SPOT),
        ("Nvidia Tesla T4 GPU attached to Spot Preemptible VMs running in Warsaw", "Preemptible", "Nvidia Tesla T4 GPU", SPOT),
        ("Spot Preemptible A4 Nvidia B200 (1 gpu slice) running in Americas", "OnDemand", "A4 Nvidia B200 (1 gpu slice)", SPOT),
        ("Nvidia L4 GPU attached to DWS Defined Duration VMs running in Iowa", "OnDemand", "Nvidia L4 GPU", FLEX_START),
        ("DWS Defined Duration A2 Core running in Americas", "OnDemand", "A2 Core", FLEX_START),
        ("RTX 6000 96GB running in Oregon", "OnDemand", "RTX 6000 96GB", ON_DEMAND),
        ("H200 141GB GPU running in Belgium", "OnDemand", "H200 141GB GPU", ON_DEMAND),
        ("SSD backed Local Storage", "OnDemand", "SSD backed Local Storage", ON_DEMAND),
        ("SSD backed Local Storage in Belgium", "OnDemand", "SSD backed Local Storage", ON_DEMAND),
    ],
)  # fmt: skip
def test_googles_words_are_understood(description: str, usage: str, part: str, market: str) -> None:
    assert rates_of([sku(description, usage)]) == {"us-central1": {part: {market: pytest.approx(0.1)}}}


@pytest.mark.parametrize(
    "row",
    [
        sku("Nvidia Tesla A100 80GB GPU for a friend running in Americas"),
        sku("N2 Instance Core running in Americas", "Commit1Yr"),
        sku("N2 Instance Core running in Americas", nanos=0),
        sku("N2 Instance Core running in Americas", serviceRegions=[]),
        sku("N2 Instance Core running in Americas", pricingInfo=[]),
        {"description": "N2 Instance Core running in Americas"},
        {},
    ],
)
def test_what_says_too_little_is_left_out(row: dict[str, Any]) -> None:
    assert rates_of([row]) == {}


def test_the_newest_price_counts_and_not_what_is_free_each_month() -> None:
    one = {"startUsageAmount": 0, "unitPrice": {"units": "0", "nanos": 0}}
    two = {"startUsageAmount": 720, "unitPrice": {"units": "1", "nanos": 250_000_000}}
    old = {"pricingExpression": {"usageUnit": "h", "tieredRates": [{"unitPrice": {"units": "9"}}]}}
    new = {"pricingExpression": {"usageUnit": "h", "tieredRates": [one, two]}}
    rates = rates_of([sku("E2 Instance Core running in Americas", pricingInfo=[old, new])])
    assert rates["us-central1"]["E2 Instance Core"][ON_DEMAND] == 1.25


def test_of_two_prices_of_the_same_the_dearer_one_is_taken() -> None:
    text = "G2 Instance Core running in Americas"
    assert rates_of([sku(text, nanos=3), sku(text, nanos=7), sku(text, nanos=5)])["us-central1"][
        "G2 Instance Core"
    ] == {ON_DEMAND: pytest.approx(7e-9)}


@pytest.mark.parametrize("part", ["N2 Instance Core", "N2 Instance Ram"])
def test_a_machine_of_which_a_part_has_no_price_has_none(billing: Billing, part: str) -> None:
    rates = {name: value for name, value in rates_of(billing.skus())["us-central1"].items() if name != part}
    assert price_of(N2, rates, ON_DEMAND) is None


def test_a_machine_whose_devices_are_not_told_has_no_price(billing: Billing) -> None:
    rates = rates_of(billing.skus())["us-central1"]
    assert price_of(Shape("g2-standard-4", 4, 16), rates, ON_DEMAND) is None
    assert price_of(Shape("g2-standard-4", 4, 16, "nvidia-l4", 1), rates, ON_DEMAND) is not None


def test_the_price_of_a_slice_is_that_of_the_whole_machine() -> None:
    rates = rates_of([sku("A4 Nvidia B200 (1 gpu slice) running in Americas")])["us-central1"]
    shape = Shape("a4-highgpu-8g", 224, 3968, "nvidia-b200", 8, 32 * 375)
    assert price_of(shape, rates, ON_DEMAND) == pytest.approx(0.8)


def test_shared_cores_are_paid_in_part(billing: Billing) -> None:
    rates = rates_of(billing.skus())["us-central1"]
    core, ram = billing.rates["E2 Instance Core"], billing.rates["E2 Instance Ram"]
    assert price_of(Shape("e2-micro", 2, 1), rates, ON_DEMAND) == pytest.approx(core / 4 + ram)


def test_a_shape_is_read_from_a_machine_type() -> None:
    row = {
        "name": "a3-highgpu-8g", "guestCpus": 208, "memoryMb": 1872 * 1024,
        "accelerators": [{"guestAcceleratorType": "nvidia-h100-80gb", "guestAcceleratorCount": 8}],
        "bundledLocalSsds": {"partitionCount": 16, "defaultInterface": "NVME"},
    }  # fmt: skip
    assert shape_of(row) == A3
    assert shape_of({"name": "n2-standard-4", "guestCpus": 4, "memoryMb": 16384}) == N2
