"""Offers of the fake cloud from a user's own table: {NAME: {CPU: 4, GPU: 1, price: 0.8, spot_price: 0.3, gpu_type: L4}}."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clusterctl.core.errors import BadRequest
from clusterctl.core.model import Offer, labels_of
from clusterctl.core.resources import Resources
from clusterctl_providers.base import PoolRequest

Types = Mapping[str, Mapping[str, Any]]
_NO_RESOURCE = ("price", "spot_price", "gpu_type")
_SPOT_SHARE = 0.35  # of the on-demand price, where a type names no spot_price


def offers_of(types: Types, pool: PoolRequest, region: str, zones: Sequence[str], boot_seconds: float) -> list[Offer]:
    """One for each type that the pool would take, market and zone. Raises BadRequest for a type that is not in the table."""
    return sorted(
        _offer(types[name], name, pool, market, rank, region, zone, boot_seconds)
        for name in _fitting(types, pool)
        for rank, market in enumerate(pool.spec.get("market") or ["on-demand"])
        for zone in zones
    )


def _fitting(types: Types, pool: PoolRequest) -> Sequence[str]:
    named = [str(name) for name in pool.spec.get("instances") or []]
    unknown = [name for name in named if name not in types]
    if unknown:
        raise BadRequest(
            f"pool {pool.name}: the fake cloud has no type {unknown[0]!r}; it has {', '.join(sorted(types))}"
        )
    gpu = pool.spec.get("gpu") or {}
    wanted = (gpu.get("name", ""), gpu.get("count", 1))
    having = [
        name for name, facts in types.items() if not gpu or (facts.get("gpu_type", ""), facts.get("GPU", 0)) == wanted
    ]
    return named or having


def _offer(
    facts: Mapping[str, Any],
    name: str,
    pool: PoolRequest,
    market: str,
    rank: int,
    region: str,
    zone: str,
    boot_seconds: float,
) -> Offer:
    amounts = {key: float(value) for key, value in facts.items() if key not in _NO_RESOURCE}
    amounts.update({key: float(value) for key, value in (pool.spec.get("resources") or {}).items()})
    price = float(facts.get("price", 0.0))
    return Offer(
        pool=pool.name,
        instance_type=name,
        market=market,
        zone=zone,
        price=float(facts.get("spot_price", price * _SPOT_SHARE)) if market == "spot" else price,
        resources=Resources.of(amounts),
        labels=labels_of(dict(pool.spec.get("labels") or {})),
        gpu_type=str(facts.get("gpu_type", "")),
        region=region,
        rank=rank,
        price_source="fake",
        boot_seconds=boot_seconds,
    )
