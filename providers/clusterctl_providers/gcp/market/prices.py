"""What Google Cloud charges, by the Cloud Billing Catalog: rates of cores, memory, devices and local SSDs, and the sum of them
that a machine type costs. Sustained-use and committed-use discounts are not counted, which makes it dearer in doubt.

The catalog is one list of some 30,000 prices of all regions, in words: "Spot Preemptible N2 Instance Core running in Americas".
It is read page by page, and what instances are made of is kept in a file of the user's for half a day: all clusters have the
same prices.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusterctl.core.errors import ProviderError
from clusterctl_providers.cloud.kept import KeptPrices, Rates
from clusterctl_providers.gcp.calls import Calls

SOURCE = "Cloud Billing Catalog"
COMPUTE_ENGINE = "services/6F81-5844-456A"
PAGE = 5000  # the most that the catalog puts on one
FIELDS = "nextPageToken,skus(description,serviceRegions,category/usageType,pricingInfo/pricingExpression(usageUnit,tieredRates))"
HOURS_A_MONTH = 730.0
ON_DEMAND, SPOT, FLEX_START = "on-demand", "spot", "flex-start"
_MARKETS = {"Spot Preemptible": SPOT, "DWS Defined Duration": FLEX_START}

# Series -> how the catalog calls it, before "Core" and "Ram". What is not here (sole tenancy, custom machines, reserved
# capacity, commitments) has other words in its description and is left out.
_SERIES = {
    "a2": ("A2 Instance", "A2"), "a3": ("A3 Instance", "A3"), "c2": ("Compute optimized", "Compute optimized Instance"),
    "c2d": ("C2D AMD Instance",), "c3": ("C3 Instance",), "c3d": ("C3D Instance",), "c4": ("C4 Instance",),
    "c4a": ("C4A Arm Instance",), "c4d": ("C4D Instance",), "c4n": ("C4N Instance",), "e2": ("E2 Instance",),
    "g2": ("G2 Instance", "G2"), "g4": ("G4 Instance", "G4"), "n1": ("N1 Predefined Instance",), "n2": ("N2 Instance",),
    "n2d": ("N2D AMD Instance",), "n4": ("N4 Instance",), "n4a": ("N4A Instance",), "n4d": ("N4D Instance",),
    "t2a": ("T2A Arm Instance",), "t2d": ("T2D AMD Instance",),
    "a3-megagpu": ("A3Plus Instance", "A3 Plus Instance", "A3 Instance", "A3"),
    "a3-ultragpu": ("A3Ultra Instance", "A3 Ultra Instance", "A3 Ultra"),
}  # fmt: skip
_DEVICES = {
    "nvidia-a100-80gb": ("Nvidia Tesla A100 80GB GPU",),
    "nvidia-b200": ("A4 Nvidia B200 (1 gpu slice)",),
    "nvidia-h100-80gb": ("Nvidia H100 80GB GPU",),
    "nvidia-h100-mega-80gb": ("Nvidia H100 80GB Plus GPU", "Nvidia H100 80GB Mega GPU", "Nvidia H100 Mega 80GB GPU"),
    "nvidia-h200-141gb": ("H200 141GB GPU", "Nvidia H200 141GB GPU"),
    "nvidia-l4": ("Nvidia L4 GPU",),
    "nvidia-rtx-pro-6000": ("RTX 6000 96GB",),
    "nvidia-tesla-a100": ("Nvidia Tesla A100 GPU",),
    "nvidia-tesla-p100": ("Nvidia Tesla P100 GPU",),
    "nvidia-tesla-p4": ("Nvidia Tesla P4 GPU",),
    "nvidia-tesla-t4": ("Nvidia Tesla T4 GPU",),
    "nvidia-tesla-v100": ("Nvidia Tesla V100 GPU",),
}
_WHOLE = frozenset({"nvidia-b200"})  # the device's price is that of its share of the machine, too
_LOCAL_SSD = ("SSD backed Local Storage",)
_LOCAL_SSD_SERIES = frozenset({"a2", "a3", "c3", "c3d"})  # others have prices of their own for theirs
_WITH_DEVICES = frozenset({"a2", "a3", "a4", "a4x", "g2", "g4"})  # series that are nothing without them
_SHARED_CORES = {"e2-micro": 0.25, "e2-small": 0.5, "e2-medium": 1.0}  # what is paid of the two that they show
_PARTS = frozenset(
    [f"{words} {part}" for names in _SERIES.values() for words in names for part in ("Core", "Ram")]
    + [name for names in _DEVICES.values() for name in names]
    + list(_LOCAL_SSD)
)
_DESCRIPTION = re.compile(
    r"(?:(?P<before>Spot Preemptible|DWS Defined Duration) )?(?P<part>.+?)"
    r"(?: attached to (?P<after>Spot Preemptible|DWS Defined Duration) VMs)?(?: (?:running )?in .+)?"
)


@dataclass(frozen=True)
class Shape:
    """What a machine is made of, as machineTypes tells it, with what is attached."""

    machine_type: str
    vcpus: float
    memory_gib: float
    device: str = ""
    count: float = 0
    local_ssd_gib: float = 0

    @property
    def series(self) -> str:
        return self.machine_type.partition("-")[0]


class PriceList:
    """Thread-safe. `directory`: where the rates are kept, None where they are not, as those of a stand-in."""

    def __init__(self, calls: Calls, directory: Path | None, now: Callable[[], float] = time.time) -> None:
        self._calls = calls
        self._kept = KeptPrices(directory / "gcp-rates.json" if directory else None, self._read, now)

    def rates(self, region: str) -> tuple[Rates, str]:
        """Those of a region and the day on which they were read, ISO. Raises ProviderError where they are not to be had."""
        return self._kept.rates(region)

    def _read(self) -> dict[str, dict[str, dict[str, float]]]:
        what = "asking for the prices of Compute Engine"
        pages = self._calls.pages(f"v1/{COMPUTE_ENGINE}/skus", what, "cloudbilling", pageSize=PAGE, fields=FIELDS)
        try:
            return rates_of(sku for page in pages for sku in page.get("skus") or ())
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise ProviderError(f"{what}: Google's answer is not to be read ({error!r})") from error


def rates_of(skus: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Region -> part -> market -> $ per hour, of what instances are made of. Where a region has two prices of the same, the
    dearer one."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for sku in skus:
        described = _part_in(sku)
        rate = _rate_in(sku) if described else 0.0
        if described is None or rate <= 0:
            continue  # what is reserved or committed stands there at nothing
        part, market = described
        for region in sku.get("serviceRegions") or ():
            markets = found.setdefault(region, {}).setdefault(part, {})
            markets[market] = max(rate, markets.get(market, 0.0))
    return found


def price_of(shape: Shape, rates: Rates, market: str) -> float | None:
    """$/h of such a machine; None where a rate is missing, since what is left would be too cheap."""
    total = 0.0
    for names, amount in _bill(shape):
        rate = next((rates[name][market] for name in names if market in rates.get(name, ())), None)
        if amount and rate is None:
            return None
        total += amount * (rate or 0.0)
    return total or None


def _bill(shape: Shape) -> list[tuple[tuple[str, ...], float]]:
    """(names of the rate, units) of all that is paid for."""
    lines: list[tuple[tuple[str, ...], float]] = []
    if shape.count or shape.series in _WITH_DEVICES:
        lines.append((_DEVICES.get(shape.device, ()), shape.count or 1))
    if shape.device in _WHOLE:
        return lines
    words = _SERIES.get("-".join(shape.machine_type.split("-")[:2])) or _SERIES.get(shape.series, ())
    cores = _SHARED_CORES.get(shape.machine_type, shape.vcpus)
    lines.append((tuple(f"{name} Core" for name in words), cores))
    lines.append((tuple(f"{name} Ram" for name in words), shape.memory_gib))
    if shape.local_ssd_gib:
        lines.append((_LOCAL_SSD if shape.series in _LOCAL_SSD_SERIES else (), shape.local_ssd_gib))
    return lines


def _part_in(sku: Mapping[str, Any]) -> tuple[str, str] | None:
    """(part, market) of a price; None for what is no part of an instance, or is paid for in another way."""
    usage = str((sku.get("category") or {}).get("usageType") or "")
    found = _DESCRIPTION.fullmatch(str(sku.get("description") or ""))
    if found is None or found["part"] not in _PARTS or usage not in ("OnDemand", "Preemptible"):
        return None
    market = _MARKETS.get(found["before"] or found["after"] or "", ON_DEMAND)
    if market == ON_DEMAND and usage == "Preemptible":
        market = SPOT
    return found["part"], market


def _rate_in(sku: Mapping[str, Any]) -> float:
    """$ per hour of one unit: the newest price, beyond what is free each month."""
    infos = sku.get("pricingInfo") or ()
    if not infos:
        return 0.0
    expression = infos[-1]["pricingExpression"]
    tiers = expression.get("tieredRates") or ()
    if not tiers:
        return 0.0
    price = max(tiers, key=lambda tier: float(tier.get("startUsageAmount") or 0))["unitPrice"]
    if price.get("currencyCode", "USD") != "USD":
        return 0.0
    rate = int(price.get("units") or 0) + int(price.get("nanos") or 0) / 1e9
    return rate / HOURS_A_MONTH if str(expression.get("usageUnit") or "").endswith(".mo") else rate
