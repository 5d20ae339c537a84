"""The document of `clusterctl offers`."""

from __future__ import annotations

from typing import Any

from clusterctl_providers.catalog.choice import SPOT_ESTIMATE, SPOT_ESTIMATE_SOURCE, same_count, same_gpu
from clusterctl_providers.catalog.facts import InstanceType, Price
from clusterctl_providers.catalog.store import load

Document = dict[str, Any]


def list_offers(gpu: str = "", provider: str = "", region: str = "", limit: int | None = None) -> Document:
    """Instance types with prices, cheapest first. `gpu` is NAME or NAME:COUNT; without `region` each type is shown
    once, in its cheapest region. Raises ValueError with the known names where a filter matches nothing."""
    name, _, count_text = gpu.partition(":")
    try:
        count = float(count_text) if count_text else None
    except ValueError:
        raise ValueError(f"--gpu {gpu!r}: expected NAME or NAME:COUNT, as L4 or A100:8") from None
    catalog = load()
    _check(catalog.prices, provider, region)
    rows: dict[tuple[str, ...], Document] = {}
    for (owner, place), by_type in sorted(catalog.prices.items()):
        if (provider and owner != provider) or (region and place != region):
            continue
        for type_name, price in by_type.items():
            machine = catalog.instances[owner, type_name]
            if gpu and not (machine.gpu_count and same_gpu(machine, name)):
                continue
            if gpu and count is not None and not same_count(machine, count):
                continue
            key = (owner, place, type_name) if region else (owner, type_name)
            if key not in rows or price.on_demand < rows[key]["on_demand"]:
                rows[key] = _row(machine, price)
    found = sorted(rows.values(), key=lambda r: (r["on_demand"], r["provider"], r["instance_type"]))
    if gpu and not found:
        names = sorted({m.gpu_name for m in catalog.instances.values() if m.gpu_name})
        raise ValueError(f"no instance type with {gpu!r} has a price here; GPUs in the catalogue: {', '.join(names)}")
    return {"offers": found[:limit], "total": len(found), "refused": list(catalog.refused)}


def _check(prices: dict[tuple[str, str], dict[str, Price]], provider: str, region: str) -> None:
    owners = sorted({owner for owner, _ in prices})
    if provider and provider not in owners:
        raise ValueError(f"no prices of provider {provider!r}: the catalogue has {', '.join(owners)}")
    regions = sorted({place for owner, place in prices if not provider or owner == provider})
    if region and region not in regions:
        raise ValueError(f"no prices in region {region!r}: the catalogue has {', '.join(regions)}")


def _row(machine: InstanceType, price: Price) -> Document:
    known = price.spot is not None
    return {
        "provider": price.provider,
        "region": price.region,
        "instance_type": machine.name,
        "arch": machine.arch,
        "vcpus": machine.vcpus,
        "memory_gib": machine.memory_gib,
        "gpu": machine.gpu_name,
        "gpu_count": machine.gpu_count,
        "gpu_memory_gib": machine.gpu_memory_gib,
        "on_demand": price.on_demand,
        "spot": price.spot if known else round(price.on_demand * SPOT_ESTIMATE, 6),
        "spot_source": price.source if known else SPOT_ESTIMATE_SOURCE,
        "source": price.source,
        "as_of": price.as_of,
    }
