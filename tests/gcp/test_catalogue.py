"""What the catalogue knows of Google Cloud without asking anyone."""

from __future__ import annotations

import pytest
from clusterctl_providers import catalog

REGION = "us-central1"

# type -> GPU by the name that the catalogue has for it on every cloud, and how many
ACCELERATED = {
    "n1-standard-8+nvidia-tesla-t4x1": ("T4", 1),
    "n1-highmem-16+nvidia-tesla-p4x2": ("P4", 2),
    "n1-standard-32+nvidia-tesla-p100x4": ("P100", 4),
    "n1-standard-96+nvidia-tesla-v100x8": ("V100", 8),
    "a2-highgpu-1g": ("A100", 1),
    "a2-ultragpu-8g": ("A100", 8),
    "a2-megagpu-16g": ("A100", 16),
    "a3-highgpu-8g": ("H100", 8),
    "a3-megagpu-8g": ("H100", 8),
    "a3-ultragpu-8g": ("H200", 8),
    "a4-highgpu-8g": ("B200", 8),
    "g2-standard-96": ("L4", 8),
    "g4-standard-48": ("RTXPRO6000", 1),
}
PLAIN = [f"{family}-standard-4" for family in ("n1", "n2", "n2d", "e2", "c3", "c4", "t2a", "c4a")]


@pytest.mark.parametrize("name", [*ACCELERATED, *PLAIN])
def test_a_type_has_both_prices_with_source_and_date(name: str) -> None:
    price = catalog.prices("gcp", REGION)[name]
    assert price.spot is not None and 0 < price.spot < price.on_demand
    assert price.source and price.as_of.startswith("2026-")


@pytest.mark.parametrize("name", ACCELERATED)
def test_devices_have_the_names_that_they_have_on_other_clouds(name: str) -> None:
    machine = next(m for m in catalog.instance_types("gcp") if m.name == name)
    assert (machine.gpu_name, machine.gpu_count) == ACCELERATED[name]


def test_a_type_that_the_largest_region_does_not_sell_is_known_where_it_is_sold() -> None:
    assert "a3-edgegpu-8g" not in catalog.prices("gcp", REGION)
    assert catalog.prices("gcp", "us-east4")["a3-edgegpu-8g"].on_demand > 80


@pytest.mark.parametrize("name", ["t2a-standard-4", "c4a-standard-4"])
def test_types_with_arm_processors_are_told_apart(name: str) -> None:
    assert next(m for m in catalog.instance_types("gcp") if m.name == name).arch == "arm64"


def test_a_machine_with_devices_costs_more_than_without() -> None:
    prices = catalog.prices("gcp", REGION)
    for name, price in prices.items():
        if "+" in name:
            bare = prices[name.partition("+")[0]]
            assert price.on_demand > bare.on_demand and price.spot is not None and price.spot > (bare.spot or 0)


def test_a_gpu_finds_the_cheapest_machine_that_it_is_attached_to() -> None:
    pool = {"name": "gpu", "gpu": {"name": "T4", "count": 2}, "market": ["spot", "on-demand"]}
    offers = catalog.offers_for("gcp", REGION, [], pool)
    assert offers[0].instance_type == "n1-standard-4+nvidia-tesla-t4x2" and offers[0].market == "spot"
    assert offers[0].resources.get("GPU") == 2 and offers[0].gpu_type == "T4"


def test_the_limits_of_a_device_are_kept() -> None:
    names = {m.name for m in catalog.instance_types("gcp")}
    assert "n1-standard-8+nvidia-tesla-v100x1" in names and "n1-standard-16+nvidia-tesla-v100x1" not in names
    assert "n1-highmem-32+nvidia-tesla-p100x4" in names and "n1-highmem-64+nvidia-tesla-p100x4" not in names
