"""What the catalogue knows of Azure without asking anyone."""

from __future__ import annotations

import re

import pytest
from clusterctl_providers import catalog

REGION = "eastus"
MACHINES = {machine.name: machine for machine in catalog.instance_types("azure")}
NAME = re.compile(r"Standard_[A-Z]+(?P<cores>\d+)(?:-(?P<constrained>\d+))?(?P<features>[a-z]*)(?P<rest>_.*)?")

# size -> GPU by the name that the catalogue has for it on every cloud, and how many
ACCELERATED = {
    "Standard_NC4as_T4_v3": ("T4", 1),
    "Standard_NC64as_T4_v3": ("T4", 4),
    "Standard_NV36ads_A10_v5": ("A10", 1),
    "Standard_NV72ads_A10_v5": ("A10", 2),
    "Standard_NC24ads_A100_v4": ("A100", 1),
    "Standard_NC96ads_A100_v4": ("A100", 4),
    "Standard_ND96asr_v4": ("A100", 8),
    "Standard_ND96amsr_A100_v4": ("A100", 8),
    "Standard_NC40ads_H100_v5": ("H100", 1),
    "Standard_ND96isr_H100_v5": ("H100", 8),
    "Standard_NC288lds_xl_RTXPRO6000BSE_v6": ("RTXPRO6000", 2),
}
PLAIN = ["Standard_D2as_v5", "Standard_D4s_v5", "Standard_E4as_v5", "Standard_F4s_v2", "Standard_D2ps_v5"]


@pytest.mark.parametrize("name", [*ACCELERATED, *PLAIN])
def test_a_size_has_a_price_with_source_and_date(name: str) -> None:
    price = catalog.prices("azure", REGION)[name]
    assert price.on_demand > 0 and price.source and price.as_of.startswith("202")


@pytest.mark.parametrize("name", ACCELERATED)
def test_devices_have_the_names_that_they_have_on_other_clouds(name: str) -> None:
    machine = MACHINES[name]
    assert (machine.gpu_name, machine.gpu_count) == ACCELERATED[name]
    others = {m.gpu_name for cloud in ("aws", "gcp") for m in catalog.instance_types(cloud)}
    assert machine.gpu_name in others or machine.gpu_name == "A10"  # which Azure alone has


@pytest.mark.parametrize("name", ["Standard_ND96isr_H200_v5", "Standard_ND96isr_MI300X_v5"])
def test_a_size_that_the_largest_region_does_not_sell_is_known_where_it_is_sold(name: str) -> None:
    regions = catalog.load().regions("azure")
    assert name not in catalog.prices("azure", REGION)
    assert any(
        catalog.prices("azure", region)[name].on_demand > 20
        for region in regions
        if name in catalog.prices("azure", region)
    )


def test_names_say_how_many_cores_a_size_has_and_the_catalogue_says_the_same() -> None:
    for name, machine in MACHINES.items():
        found = NAME.fullmatch(name)
        assert found is not None, name
        if re.search(r"_v[3-9]$", name):
            assert machine.vcpus == int(found["constrained"] or found["cores"]), name


def test_sizes_with_arm_processors_are_told_apart() -> None:
    """A p in the name, or a Grace beside its Blackwells."""
    for name, machine in MACHINES.items():
        found = NAME.fullmatch(name)
        assert found is not None
        arm = "p" in found["features"] or "_GB" in name
        assert machine.arch == ("arm64" if arm else "x86_64"), name


def test_a_share_of_a_gpu_is_no_gpu() -> None:
    whole = {"name": "gpu", "gpu": {"name": "A10", "count": 1}, "market": ["on-demand"]}
    share = {**whole, "resources": {}, "gpu": {"name": "A10", "count": 0.5}}
    assert "Standard_NV18ads_A10_v5" not in {o.instance_type for o in catalog.offers_for("azure", REGION, [], whole)}
    assert catalog.offers_for("azure", REGION, [], share)[0].instance_type == "Standard_NV18ads_A10_v5"


def test_a_gpu_finds_the_cheapest_machine_that_has_it() -> None:
    pool = {"name": "gpu", "gpu": {"name": "T4", "count": 1}, "market": ["spot", "on-demand"]}
    offers = catalog.offers_for("azure", REGION, [], pool)
    assert offers[0].instance_type == "Standard_NC4as_T4_v3" and offers[0].market == "spot"
    assert offers[0].resources.get("GPU") == 1 and offers[0].gpu_type == "T4"
    assert offers[0].price_source == catalog.SPOT_ESTIMATE_SOURCE, (
        "Azure publishes spot prices, the shipped list has none"
    )
