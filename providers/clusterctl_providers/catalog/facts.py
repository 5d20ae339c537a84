"""Rows of the catalogue: what a machine type is, what it costs where, and which prices are not believed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from sys import intern

GIB = 1024**3
GPU_VENDORS = frozenset({"nvidia", "amd"})  # other accelerators are custom resources named for the device

# $/h that a price must lie between, per vCPU without and per device with accelerators: twice and half of the
# extremes seen on three clouds, so that a lost decimal point or a monthly figure is refused.
BELIEVED_PER_VCPU = (0.0007, 1.0)
BELIEVED_PER_DEVICE = (0.05, 75.0)


class BadRow(ValueError):
    """A row of a catalogue file or of a price fetcher that cannot be used; the message says why."""


@dataclass(frozen=True)
class InstanceType:
    """A machine type. `memory_gib` is nominal, `gpu_memory_gib` per device; `gpu_count` below 1 is a slice of one."""

    provider: str
    name: str
    arch: str
    vcpus: int
    memory_gib: float
    gpu_vendor: str
    gpu_name: str
    gpu_count: float
    gpu_memory_gib: float
    source: str
    as_of: str

    @property
    def partial_gpu(self) -> bool:
        return 0 < self.gpu_count < 1


@dataclass(frozen=True, slots=True)  # there are tens of thousands
class Price:
    """$/h of one machine type in one region; `spot` is None where nobody publishes it. `as_of` is an ISO date."""

    provider: str
    region: str
    instance_type: str
    on_demand: float
    spot: float | None
    source: str
    as_of: str


def read_instances(rows: Iterable[Mapping[str, str]]) -> Iterator[InstanceType]:
    """Machine types from CSV rows; raises BadRow naming the row."""
    for row in rows:
        try:
            yield InstanceType(
                provider=row["provider"],
                name=row["instance_type"],
                arch=row["arch"],
                vcpus=int(row["vcpus"]),
                memory_gib=float(row["memory_gib"]),
                gpu_vendor=row["gpu_vendor"],
                gpu_name=row["gpu_name"],
                gpu_count=float(row["gpu_count"] or 0),
                gpu_memory_gib=float(row["gpu_memory_gib"] or 0),
                source=row["source"],
                as_of=row["as_of"],
            )
        except (KeyError, ValueError) as error:
            raise BadRow(f"instance row {dict(row)!r}: {error}") from error


def read_prices(rows: Iterable[Mapping[str, str]]) -> Iterator[Price]:
    """Prices from CSV rows, not yet believed (see `price_fault`); raises BadRow naming the row."""
    for row in rows:
        try:
            yield Price(
                provider=intern(row["provider"]),
                region=intern(row["region"]),
                instance_type=intern(row["instance_type"]),
                on_demand=float(row["on_demand_usd_per_hour"]),
                spot=float(row["spot_usd_per_hour"]) if row["spot_usd_per_hour"] else None,
                source=intern(row["source"]),
                as_of=intern(row["as_of"]),
            )
        except (KeyError, ValueError) as error:
            raise BadRow(f"price row {dict(row)!r}: {error}") from error


def price_fault(price: Price, machine: InstanceType | None) -> str:
    """Why this price is refused, as a sentence; "" when it is believed."""
    where = f"{price.provider} {price.instance_type} in {price.region}"
    if machine is None:
        return f"{where}: the catalogue knows no such instance type"
    for label, value in (("on-demand", price.on_demand), ("spot", price.spot)):
        if value is None:
            continue
        if not math.isfinite(value) or value <= 0:
            return f"{where}: {label} price {value!r} is not above zero"
    if price.spot is not None and price.spot >= price.on_demand:
        return f"{where}: spot price {price.spot:g} is not below the on-demand price {price.on_demand:g}"
    accelerated = machine.gpu_count > 0
    low, high = BELIEVED_PER_DEVICE if accelerated else BELIEVED_PER_VCPU
    share = price.on_demand / (machine.gpu_count if accelerated else machine.vcpus)
    if not low <= share <= high:
        unit = "accelerator" if accelerated else "vCPU"
        return f"{where}: {price.on_demand:g} $/h is {share:.4g} $/h per {unit}, outside {low:g} to {high:g}"
    return ""
