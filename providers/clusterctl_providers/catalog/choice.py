"""From a pool of the spec to the offers that can serve it: hardware first, then price, then market order and zones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clusterctl.core.model import Offer, labels_of
from clusterctl.core.resources import Resources
from clusterctl_providers.catalog.facts import GIB, GPU_VENDORS, InstanceType, Price
from clusterctl_providers.catalog.gpu_names import split_memory
from clusterctl_providers.catalog.store import Catalog

# A guess of a spot price, where none is published, as a share of the on-demand price. Where both are known (GCP, 1,858
# prices) the median is 0.47 with and 0.35 without GPUs, the upper quartile 0.56 and 0.47: half errs on the dear side.
SPOT_ESTIMATE = 0.5
SPOT_ESTIMATE_SOURCE = "estimate"

# What firmware, hypervisor and system keep of the nominal memory: a job must not wait for bytes no node will have.
USABLE_MEMORY = 0.925

# A pool that names only minimum resources fits hundreds of types: the cheapest are kept, the rest are named as dearer.
MOST_TYPES = 16

BOOT_SECONDS = {"aws": 60.0, "gcp": 60.0, "azure": 120.0}
_DEFAULT_BOOT_SECONDS = 90.0
_HARDWARE = ("CPU", "GPU", "memory")


@dataclass(frozen=True)
class LeftOut:
    """A type that was not offered: `code` for machines, `text` for people."""

    instance_type: str
    code: str
    text: str


@dataclass(frozen=True)
class Choice:
    offers: tuple[Offer, ...]
    left_out: tuple[LeftOut, ...] = ()


def choose(
    catalog: Catalog,
    provider: str,
    region: str,
    zones: Sequence[str],
    pool: Mapping[str, Any],
    newer: Mapping[str, Price] | None = None,
) -> Choice:
    """Offers for a pool (its spec as plain data) in `zones` of `region`, and the types left out with their reasons.

    Types are those that `instances` names; else those with exactly the `gpu` asked for; else the cheapest CPU types
    with at least the `resources` asked for. Without zones the offer's zone is the region: the provider chooses.
    `newer`: prices of that region, by type, which take the place of the catalogue's.
    """
    wanted, left_out = _matching_types(catalog, provider, pool)
    prices = {**catalog.prices.get((provider, region), {}), **(newer or {})}
    priced: list[tuple[InstanceType, Price]] = []
    for machine in wanted:
        price = prices.get(machine.name)
        if price is None:
            left_out.append(_no_price(catalog, provider, region, machine.name))
        else:
            priced.append((machine, price))
    priced.sort(key=lambda pair: (pair[1].on_demand, pair[0].name))
    if not pool.get("instances") and not pool.get("gpu"):
        for machine, price in priced[MOST_TYPES:]:
            text = f"{machine.name} costs {price.on_demand:g} $/h: {MOST_TYPES} types that fit are cheaper"
            left_out.append(LeftOut(machine.name, "dearer", text))
        priced = priced[:MOST_TYPES]
    offers: list[Offer] = []
    for machine, price in priced:
        try:
            resources = _resources_of(machine, pool)
        except ValueError as error:
            left_out.append(LeftOut(machine.name, "too_small", str(error)))
            continue
        offers.extend(_offers_of(machine, price, resources, region, zones, pool))
    offers.sort(key=lambda o: (o.rank, o.price, o.key))
    return Choice(tuple(offers), tuple(sorted(left_out, key=lambda entry: (entry.code, entry.instance_type))))


def offer_without_price(
    catalog: Catalog, provider: str, region: str, zone: str, name: str, pool: Mapping[str, Any]
) -> Offer | None:
    """An offer of one type whose price plays no part, as it was paid for before; None for a type that is not known, or
    has less than the pool's resources."""
    machine = catalog.instances.get((provider, name))
    if machine is None:
        return None
    try:
        resources = _resources_of(machine, {**pool, "instances": [name]})
    except ValueError:
        return None
    free = Price(provider, region, name, 0.0, None, "", "")
    (offer,) = _offers_of(machine, free, resources, region, [zone], {**pool, "market": ["on-demand"]})
    return offer


def same_gpu(machine: InstanceType, name: str) -> bool:
    """Whether the type's device is `name`: any case, with or without memory ("A100", "a100-80gb"); "" = any GPU."""
    if not name:
        return machine.gpu_vendor in GPU_VENDORS
    model, memory = split_memory(name)
    if memory is not None and memory != machine.gpu_memory_gib:
        return False
    return machine.gpu_name.upper() == model.replace("-", "").upper()


def same_count(machine: InstanceType, count: float) -> bool:
    """Whole GPUs match exactly; a share of one GPU matches slices (and one whole GPU) of at least that share."""
    if count >= 1:
        return machine.gpu_count == count
    return count - 1e-4 <= machine.gpu_count <= 1  # thirds and sixths are rounded in the data


def _matching_types(
    catalog: Catalog, provider: str, pool: Mapping[str, Any]
) -> tuple[list[InstanceType], list[LeftOut]]:
    machines = [m for (name, _), m in sorted(catalog.instances.items()) if name == provider]
    if pool.get("instances"):
        return _named(machines, provider, pool["instances"])
    gpu = pool.get("gpu")
    if gpu:
        return _with_gpu(machines, provider, str(gpu.get("name") or ""), float(gpu.get("count") or 1))
    return _with_minimum(machines, pool.get("resources") or {})


def _named(
    machines: list[InstanceType], provider: str, names: Iterable[str]
) -> tuple[list[InstanceType], list[LeftOut]]:
    by_name = {m.name: m for m in machines}
    found, left_out = [], []
    for name in dict.fromkeys(names):
        if name in by_name:
            found.append(by_name[name])
        else:
            text = f"{provider} has no instance type {name!r} that the catalogue knows"
            left_out.append(LeftOut(name, "unknown_type", text))
    return found, left_out


def _with_gpu(
    machines: list[InstanceType], provider: str, name: str, count: float
) -> tuple[list[InstanceType], list[LeftOut]]:
    found, left_out = [], []
    for machine in machines:
        if not machine.gpu_count or not same_gpu(machine, name):
            continue
        if same_count(machine, count):
            found.append(machine)
        else:
            share = "a slice of one GPU" if machine.partial_gpu else f"{machine.gpu_count:g} GPUs"
            text = f"{machine.name} has {share}, the pool asks for {count:g} per node"
            left_out.append(LeftOut(machine.name, "gpu_count", text))
    if not found and not left_out:
        left_out.append(LeftOut("", "unknown_gpu", f"{provider} has no GPU {name!r} that the catalogue knows"))
    return found, left_out


def _with_minimum(
    machines: list[InstanceType], resources: Mapping[str, Any]
) -> tuple[list[InstanceType], list[LeftOut]]:
    found, left_out = [], []
    gpus = float(resources.get("GPU") or 0)
    for machine in machines:
        if bool(gpus) != (machine.gpu_vendor in GPU_VENDORS) or (not gpus and machine.gpu_count):
            continue  # accelerators are for pools that ask for them
        if gpus and (machine.partial_gpu if gpus >= 1 else False):
            continue
        fits = (
            machine.vcpus >= float(resources.get("CPU") or 0)
            and machine.memory_gib * GIB >= float(resources.get("memory") or 0)
            and machine.gpu_count >= gpus
        )
        if fits and machine.arch != "x86_64":
            text = f"{machine.name} is {machine.arch}: name it under `instances` to use it"
            left_out.append(LeftOut(machine.name, "arch", text))
        elif fits:
            found.append(machine)
    return found, left_out


def _no_price(catalog: Catalog, provider: str, region: str, name: str) -> LeftOut:
    where = f"{provider} {name} in {region}"
    for fault in catalog.refused:
        if fault.startswith(f"{where}:"):
            return LeftOut(name, "price_refused", fault)
    return LeftOut(name, "no_price", f"{where}: no price is known; refresh the catalogue or name another region")


def _resources_of(machine: InstanceType, pool: Mapping[str, Any]) -> Resources:
    """What a node will offer: the hardware, lowered to what the pool declares, plus the pool's own custom resources."""
    amounts: dict[str, float] = {"CPU": machine.vcpus, "memory": int(machine.memory_gib * GIB * USABLE_MEMORY)}
    if machine.gpu_count:
        amounts["GPU" if machine.gpu_vendor in GPU_VENDORS else machine.gpu_name] = machine.gpu_count
    named = bool(pool.get("instances"))
    for name, amount in (pool.get("resources") or {}).items():
        if name not in _HARDWARE:
            amounts[name] = float(amount)
        elif named and float(amount) > amounts.get(name, 0):
            if name == "memory" and float(amount) <= machine.memory_gib * GIB:
                continue  # the nominal size was meant
            has, asked = Resources.of({name: amounts.get(name, 0)}), Resources.of({name: float(amount)})
            raise ValueError(f"{machine.name} has {has}, the pool's resources say {asked}")
        elif named:
            amounts[name] = float(amount)
    return Resources.of(amounts)


def _offers_of(
    machine: InstanceType,
    price: Price,
    resources: Resources,
    region: str,
    zones: Sequence[str],
    pool: Mapping[str, Any],
) -> list[Offer]:
    labels = dict(pool.get("labels") or {})
    offers = []
    for rank, market in enumerate(dict.fromkeys(pool.get("market") or ["on-demand"])):
        amount, source = price.on_demand, price.source
        if market == "spot":
            known = price.spot is not None
            amount = price.spot if price.spot is not None else round(price.on_demand * SPOT_ESTIMATE, 6)
            source = price.source if known else SPOT_ESTIMATE_SOURCE
        for zone in zones or [region]:
            offers.append(
                Offer(
                    pool=str(pool.get("name") or ""),
                    instance_type=machine.name,
                    market=market,
                    zone=zone,
                    price=amount,
                    resources=resources,
                    labels=labels_of({str(k): str(v) for k, v in labels.items()}),
                    gpu_type=machine.gpu_name if machine.gpu_vendor in GPU_VENDORS else "",
                    region=region,
                    rank=rank,
                    price_source=source,
                    price_date=price.as_of,
                    boot_seconds=BOOT_SECONDS.get(machine.provider, _DEFAULT_BOOT_SECONDS),
                )
            )
    return offers
