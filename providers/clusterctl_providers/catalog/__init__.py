"""Instance types and prices of the clouds, offline: facts with a source and a date each, and the offers made of them.

    instance_types("aws")                       every type with its hardware
    prices("aws", "us-east-1")                  name -> Price
    offers_for("aws", "us-east-1", zones, pool) the pool's offers, best first (market order, then price)
    choose(...)                                 the same, with the types left out and why
    refresh("aws", fetch)                       newer prices for later runs

The data files are made by `scripts/make_catalog.py`; `SOURCES.md` beside them says where each fact is from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clusterctl.core.model import Offer
from clusterctl_providers.catalog.choice import SPOT_ESTIMATE, SPOT_ESTIMATE_SOURCE, Choice, LeftOut
from clusterctl_providers.catalog.choice import choose as _choose
from clusterctl_providers.catalog.choice import offer_without_price as _offer_without_price
from clusterctl_providers.catalog.facts import InstanceType, Price
from clusterctl_providers.catalog.store import Catalog, Fetch, Refresh, load, refresh, user_directory

__all__ = [
    "SPOT_ESTIMATE",
    "SPOT_ESTIMATE_SOURCE",
    "Catalog",
    "Choice",
    "Fetch",
    "InstanceType",
    "LeftOut",
    "Price",
    "Refresh",
    "choose",
    "instance_types",
    "load",
    "offer_without_price",
    "offers_for",
    "prices",
    "refresh",
    "user_directory",
]


def instance_types(provider: str) -> list[InstanceType]:
    """Every known type of `provider`, by name; empty for a provider that is no cloud."""
    return [machine for (name, _), machine in sorted(load().instances.items()) if name == provider]


def prices(provider: str, region: str) -> dict[str, Price]:
    """Believed prices by instance type; empty for an unknown region."""
    return dict(load().prices.get((provider, region), {}))


def choose(provider: str, region: str, zones: Sequence[str], pool_spec: Mapping[str, Any]) -> Choice:
    """Offers of a pool and the types that were left out, each with a reason."""
    return _choose(load(), provider, region, zones, pool_spec)


def offers_for(
    provider: str,
    region: str,
    zones: Sequence[str],
    pool_spec: Mapping[str, Any],
    newer: Mapping[str, Price] | None = None,
) -> list[Offer]:
    """The pool's offers, best first: the markets in the pool's order, then by price. `newer`: prices of the region that take the
    place of the catalogue's."""
    return list(_choose(load(), provider, region, zones, pool_spec, newer).offers)


def offer_without_price(provider: str, region: str, zone: str, name: str, pool_spec: Mapping[str, Any]) -> Offer | None:
    """An offer of capacity that was paid for before; None for a type that is not known or does not fit the pool."""
    return _offer_without_price(load(), provider, region, zone, name, pool_spec)
