"""What Compute Engine sells where and for how much (`cloud.offers.Market`): machine and accelerator types of the region's
zones, and the Cloud Billing Catalog, whose prices are the same in all zones of a region."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from clusterctl_providers.catalog import Price
from clusterctl_providers.cloud.offers import LAST, Quote
from clusterctl_providers.gcp.calls import PAGE, Calls
from clusterctl_providers.gcp.machines.accelerators import machine_of
from clusterctl_providers.gcp.market.prices import SOURCE, SPOT, PriceList, Shape, price_of

LOCAL_SSD_GIB = 375  # of each that comes with a machine type
_TYPE_FIELDS = (
    "items(name,guestCpus,memoryMb,accelerators,bundledLocalSsds,deprecated/state),nextPageToken,unreachables,warning"
)
_DEVICE_FIELDS = "items(name,maximumCardsPerInstance,deprecated/state),nextPageToken,unreachables,warning"
_GONE = ("OBSOLETE", "DELETED")


@dataclass
class Zone:
    """What it sells: machine types, and devices with the most of them that a machine takes."""

    shapes: dict[str, Shape] = field(default_factory=dict[str, Shape])
    devices: dict[str, int] = field(default_factory=dict[str, int])

    def sells(self, instance_type: str) -> bool:
        machine = machine_of(instance_type)
        has_device = not machine.count or machine.count <= self.devices.get(machine.device, 0)
        return machine.machine_type in self.shapes and has_device


class GceMarket:
    """Thread-safe."""

    provider = "gcp"
    head_type = "e2-standard-2"

    def __init__(
        self,
        calls: Calls,
        prices: PriceList,
        zones: Callable[[], list[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`zones`: those of the region; its subnetwork is in all of them."""
        self._calls, self._prices, self._clock = calls, prices, clock
        self.zones = zones
        self._sold: dict[str, Zone] = {}
        self._until = float("-inf")
        self._lock = threading.RLock()

    @property
    def region(self) -> str:
        return self._calls.region

    def sellers(self, types: Sequence[str]) -> dict[str, frozenset[str]]:
        sold = self._look()
        return {name: frozenset(zone for zone, has in sold.items() if has.sells(name)) for name in types}

    def markets(self, types: Sequence[str]) -> dict[str, frozenset[str]]:
        """No list says it: Google does when one is launched."""
        return {}

    def listed(self) -> dict[str, Price]:
        """Google's list has parts of machines: `quote` puts them together."""
        return {}

    def quote(self, instance_type: str, market: str) -> Quote | None:
        """None where Google has no such type here, or does not say what a part of it costs."""
        shape = self._shape(instance_type)
        rates, day = self._prices.rates(self.region)
        price = price_of(shape, rates, market) if shape else None
        return Quote(round(price, 6), SOURCE, day) if price else None

    def spot(self, types: Sequence[str]) -> dict[str, dict[str, Quote]]:
        quotes = {name: quote for name in types if (quote := self.quote(name, SPOT))}
        return {name: dict.fromkeys(self.zones(), quote) for name, quote in quotes.items()}

    def _shape(self, instance_type: str) -> Shape | None:
        machine = machine_of(instance_type)
        shape = next(
            (has.shapes[machine.machine_type] for has in self._look().values() if machine.machine_type in has.shapes),
            None,
        )
        if shape is None or not machine.count:
            return shape
        return replace(shape, device=machine.device, count=machine.count)

    def _look(self) -> Mapping[str, Zone]:
        """Zone -> what it sells, believed for an hour. Raises ProviderError when a zone does not answer: half of a list would
        keep a type away."""
        with self._lock:
            if self._clock() >= self._until:
                self._sold = {zone: Zone(self._shapes_in(zone), self._devices_in(zone)) for zone in self.zones()}
                self._until = self._clock() + LAST
            return self._sold

    def _shapes_in(self, zone: str) -> dict[str, Shape]:
        rows = self._rows(f"zones/{zone}/machineTypes", f"asking which machine types {zone} has", _TYPE_FIELDS)
        return {str(row["name"]): shape_of(row) for row in rows}

    def _devices_in(self, zone: str) -> dict[str, int]:
        rows = self._rows(f"zones/{zone}/acceleratorTypes", f"asking which accelerators {zone} has", _DEVICE_FIELDS)
        return {str(row["name"]): int(row.get("maximumCardsPerInstance") or 0) for row in rows}

    def _rows(self, path: str, what: str, fields: str) -> Iterable[Mapping[str, Any]]:
        for page in self._calls.pages(path, what, maxResults=PAGE, fields=fields):
            for row in page.get("items") or ():
                if (row.get("deprecated") or {}).get("state") not in _GONE:
                    yield row


def shape_of(row: Mapping[str, Any]) -> Shape:
    """Of a machine type as Compute Engine describes it."""
    devices = row.get("accelerators") or [{}]
    ssds = int((row.get("bundledLocalSsds") or {}).get("partitionCount") or 0)
    return Shape(
        machine_type=str(row["name"]),
        vcpus=float(row.get("guestCpus") or 0),
        memory_gib=float(row.get("memoryMb") or 0) / 1024,
        device=str(devices[0].get("guestAcceleratorType") or ""),
        count=float(devices[0].get("guestAcceleratorCount") or 0),
        local_ssd_gib=float(ssds * LOCAL_SSD_GIB),
    )
