"""From a pool to its offers: hardware, price, market order, zones, and a reason for every type left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.catalog import Catalog, choose, load, offers_for
from clusterctl_providers.catalog.choice import MOST_TYPES, SPOT_ESTIMATE
from clusterctl_providers.catalog.choice import choose as choose_in


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTERCTL_HOME", str(tmp_path))


def pool(**spec: Any) -> dict[str, Any]:
    return {"name": "p", **spec}


def codes(choice: Any) -> dict[str, str]:
    return {entry.instance_type: entry.code for entry in choice.left_out}


def test_the_market_order_of_the_pool_is_the_rank_and_price_orders_within_it() -> None:
    offers = offers_for(
        "gcp",
        "us-central1",
        ["us-central1-a", "us-central1-b"],
        pool(gpu={"name": "L4", "count": 1}, market=["spot", "on-demand"]),
    )
    assert {o.rank for o in offers if o.market == "spot"} == {0}
    assert {o.rank for o in offers if o.market == "on-demand"} == {1}
    assert offers == sorted(offers, key=lambda o: (o.rank, o.price, o.key))
    assert {o.zone for o in offers} == {"us-central1-a", "us-central1-b"}
    assert all(o.gpu_type == "L4" and o.resources.get("GPU") == 1 and o.region == "us-central1" for o in offers)


def test_a_known_spot_price_is_used_and_an_unknown_one_is_estimated_and_says_so() -> None:
    known = offers_for("gcp", "us-central1", [], pool(instances=["g2-standard-4"], market=["spot"]))
    assert known[0].price_source == "karpenter-gcp"
    both = offers_for("aws", "us-east-1", [], pool(instances=["g6.xlarge"], market=["spot", "on-demand"]))
    spot, on_demand = both
    assert spot.price == pytest.approx(on_demand.price * SPOT_ESTIMATE)
    assert spot.price_source == "estimate"
    assert spot.price_date == on_demand.price_date
    assert on_demand.price_source == "karpenter-aws"


@pytest.mark.parametrize("provider_region", [("aws", "us-east-1"), ("azure", "eastus"), ("gcp", "us-central1")])
@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_a_slice_of_a_gpu_never_serves_a_pool_of_whole_gpus(provider_region: tuple[str, str], count: int) -> None:
    for offer in offers_for(*provider_region, [], pool(gpu={"name": "", "count": count})):
        assert offer.resources.get("GPU") == count
    for offer in offers_for(*provider_region, [], pool(resources={"GPU": count})):
        assert offer.resources.get("GPU") >= count


def test_a_share_of_a_gpu_is_served_by_a_slice_first() -> None:
    offers = offers_for("aws", "us-east-1", [], pool(gpu={"name": "L4", "count": 0.25}))
    assert offers[0].instance_type.startswith("g6f.")
    assert all(0.25 <= o.resources.get("GPU") <= 1 for o in offers)


@pytest.mark.parametrize("name", ["A100-80GB", "a100-80gb", "A100 80GB", "a100_80GiB"])
def test_a_gpu_may_be_named_with_its_memory(name: str) -> None:
    offers = offers_for("gcp", "us-central1", [], pool(gpu={"name": name, "count": 8}))
    assert {o.instance_type for o in offers} == {"a2-ultragpu-8g"}


def test_types_without_a_price_are_left_out_with_a_reason() -> None:
    choice = choose("aws", "us-east-1", [], pool(instances=["p5e.48xlarge", "g6.xlarge"]))
    assert [o.instance_type for o in choice.offers] == ["g6.xlarge"]
    assert codes(choice) == {"p5e.48xlarge": "no_price"}
    assert "no price is known" in choice.left_out[0].text


def test_a_type_whose_price_was_refused_says_so() -> None:
    shipped = load()
    broken = Catalog(shipped.instances, {}, ("aws g6.xlarge in us-east-1: on-demand price 0.0 is not above zero",))
    choice = choose_in(broken, "aws", "us-east-1", [], pool(instances=["g6.xlarge"]))
    assert choice.offers == ()
    assert codes(choice) == {"g6.xlarge": "price_refused"}


def test_unknown_types_and_gpus_are_named() -> None:
    assert codes(choose("aws", "us-east-1", [], pool(instances=["g6.tiny"]))) == {"g6.tiny": "unknown_type"}
    assert codes(choose("aws", "us-east-1", [], pool(gpu={"name": "L5"}))) == {"": "unknown_gpu"}


def test_a_minimum_of_resources_finds_the_cheapest_types_without_accelerators() -> None:
    choice = choose("aws", "us-east-1", [], pool(resources={"CPU": 8, "memory": 32 * 1024**3, "lane": 2}))
    assert len(choice.offers) == MOST_TYPES
    for offer in choice.offers:
        assert offer.resources.get("CPU") >= 8
        assert offer.resources.get("GPU") == 0
        assert offer.resources.get("lane") == 2
    assert "dearer" in codes(choice).values()
    assert "arch" in codes(choice).values()


def test_a_named_type_is_lowered_to_what_the_pool_declares_and_never_raised() -> None:
    lowered = offers_for("aws", "us-east-1", [], pool(instances=["g6.xlarge"], resources={"CPU": 3, "lane": 1}))
    assert lowered[0].resources.get("CPU") == 3
    assert lowered[0].resources.get("lane") == 1
    raised = choose("aws", "us-east-1", [], pool(instances=["g6.xlarge"], resources={"CPU": 64}))
    assert raised.offers == ()
    assert codes(raised) == {"g6.xlarge": "too_small"}


def test_accelerators_that_are_no_gpus_are_resources_of_their_own_name() -> None:
    offers = offers_for("aws", "us-east-1", [], pool(gpu={"name": "Inferentia2", "count": 1}))
    assert offers
    assert all(o.resources.get("GPU") == 0 and o.resources.get("Inferentia2") == 1 and not o.gpu_type for o in offers)


def test_memory_is_what_the_system_leaves_so_that_no_job_waits_for_bytes_that_no_node_has() -> None:
    offer = offers_for("aws", "us-east-1", [], pool(instances=["g6.xlarge"]))[0]
    assert 0.9 * 16 * 1024**3 < offer.resources.get("memory") < 16 * 1024**3


def test_without_zones_the_zone_is_the_region() -> None:
    assert {o.zone for o in offers_for("aws", "us-east-1", [], pool(instances=["g6.xlarge"]))} == {"us-east-1"}
