"""A row of Azure's list of sizes, read: where the subscription may have it, and why not."""

from __future__ import annotations

from typing import Any

import pytest
from clusterctl_providers.azure.market.skus import ANYWHERE, read_sku

CLOSED = "NotAvailableForSubscription"


def row(**more: Any) -> dict[str, Any]:
    return {
        "resourceType": "virtualMachines", "name": "Standard_D4as_v5", "family": "standardDASv5Family", "locations": ["eastus"],
        "locationInfo": [{"location": "eastus", "zones": ["3", "1", "2"], "zoneDetails": []}],
        "capabilities": [{"name": "vCPUs", "value": "4"}, {"name": "LowPriorityCapable", "value": "True"}], "restrictions": [],
        **more,
    }  # fmt: skip


def limit(kind: str, **info: Any) -> dict[str, Any]:
    return {"type": kind, "values": ["eastus"], "restrictionInfo": info, "reasonCode": CLOSED}


def test_a_size_has_zones_a_family_and_capabilities() -> None:
    found = read_sku(row(), "eastus")
    assert found is not None and found.zones == frozenset("123") and not found.closed
    assert found.family == "standardDASv5Family" and found.spot and found.says("LowPriorityCapable")
    assert not found.says("RdmaEnabled")


def test_locations_are_the_same_however_they_are_written() -> None:
    other = row(locations=["EastUS"], locationInfo=[{"location": "East US", "zones": ["1"]}])
    found = read_sku(other, "eastus")
    assert found is not None and found.zones == frozenset("1")


def test_a_row_of_another_region_is_none() -> None:
    assert read_sku(row(locations=["westus"]), "eastus") is None
    assert read_sku(row(locations=[]), "eastus") is None


@pytest.mark.parametrize("info", [[{"location": "eastus", "zones": []}], [{"location": "eastus"}], [], None])
def test_a_size_in_no_zone_is_had_where_azure_chooses(info: Any) -> None:
    found = read_sku(row(locationInfo=info), "eastus")
    assert found is not None and found.zones == {ANYWHERE}


@pytest.mark.parametrize(
    "where", [limit("Location", locations=["eastus"]), limit("Location"), {"type": "Location", "values": ["eastus"]}]
)
def test_a_size_that_is_closed_in_the_region_is_had_nowhere(where: dict[str, Any]) -> None:
    found = read_sku(row(restrictions=[where]), "eastus")
    assert found is not None and found.zones == frozenset() and found.closed == CLOSED


def test_what_is_closed_in_another_region_is_not_closed_here() -> None:
    there = {
        "type": "Location",
        "values": ["westus"],
        "restrictionInfo": {"locations": ["westus"]},
        "reasonCode": CLOSED,
    }
    found = read_sku(row(restrictions=[there]), "eastus")
    assert found is not None and found.zones == frozenset("123") and not found.closed


def test_zones_that_are_closed_are_left_out_and_all_of_them_leave_azure_the_choice() -> None:
    some = read_sku(row(restrictions=[limit("Zone", zones=["1", "3"])]), "eastus")
    every = read_sku(row(restrictions=[limit("Zone", zones=["1", "2", "3"])]), "eastus")
    assert some is not None and some.zones == frozenset("2")
    assert every is not None and every.zones == {ANYWHERE} and not every.closed
