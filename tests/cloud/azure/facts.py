"""Regions of the pretended Azure, and their zones."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Region:
    name: str
    title: str
    zones: tuple[str, ...]


REGIONS = {
    region.name: region
    for region in (
        Region("eastus", "East US", ("1", "2", "3")),
        Region("westus3", "West US 3", ("1", "2", "3")),
        Region("westeurope", "West Europe", ("1", "2", "3")),
        Region("northcentralus", "North Central US", ()),
    )
}
