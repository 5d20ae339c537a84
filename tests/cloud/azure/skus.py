"""What is sold where, and to whom: the list of SKUs, and which size a machine may be of."""

from __future__ import annotations

import re
from typing import Any

from tests.cloud.azure.facts import REGIONS
from tests.cloud.azure.services import Call, Services
from tests.cloud.azure.sizes import Size, sizes
from tests.cloud.azure.world import SUBSCRIPTION, Refusal, Violation, World, invalid

_FILTER = re.compile(r"location eq '(\w+)'")
_DISKS = ("Standard_LRS", "StandardSSD_LRS", "Premium_LRS", "PremiumV2_LRS", "UltraSSD_LRS")
_NOT_FOR_YOU = "NotAvailableForSubscription"


class Skus:
    def __init__(self, world: World, services: Services) -> None:
        self._world = world
        services.on("resourceSkus.list", self._list)

    def zones(self, size: Size, region: str) -> list[str]:
        """Where the region has it, whether this subscription may have it or not."""
        return [zone for zone in REGIONS[region].zones if self._world.sells(size.name, zone)]

    def sold(self, size: Size, region: str) -> bool:
        return bool(self.zones(size, region)) if REGIONS[region].zones else self._world.sells(size.name, "")

    def find(self, name: str, region: str, zone: str, id_: str) -> Size:
        """What a machine is to be. `zone` is "" for one that is in none. Raises Refusal."""
        size = sizes().get(name.lower())
        if size is None or not self.sold(size, region):
            known = ", ".join(s.name for s in sizes().values())
            message = (
                f"The value {name} provided for the VM size is not valid. The valid sizes in the current region are: "
                f"{known}"
            )
            raise invalid("vmSize", message)
        closed = self._world.restricted & {size.name, f"{size.name}/{zone}"}
        if closed or (zone and zone not in self.zones(size, region)):
            raise unavailable(size.name, region, zone, id_)
        return size

    def _list(self, call: Call) -> dict[str, Any]:
        text = call.query.get("$filter", "")
        found = _FILTER.fullmatch(text)
        if text and found is None:
            raise Violation(400, "InvalidFilter", f"The stand-in does not know the filter {text}")
        places = [found.group(1).lower()] if found else list(REGIONS)
        rows = [self._size(size, region) for region in places for size in sizes().values() if self.sold(size, region)]
        return {"value": [*rows, *(_disk(name, region) for region in places for name in _DISKS)]}

    def _size(self, size: Size, region: str) -> dict[str, Any]:
        zones = self.zones(size, region)
        restrictions: list[dict[str, Any]] = []
        if size.name in self._world.restricted:
            info = {"locations": [region]}
            restrictions.append(
                {"type": "Location", "values": [region], "restrictionInfo": info, "reasonCode": _NOT_FOR_YOU}
            )
        if closed := [zone for zone in zones if f"{size.name}/{zone}" in self._world.restricted]:
            info = {"locations": [region], "zones": closed}
            restrictions.append(
                {"type": "Zone", "values": [region], "restrictionInfo": info, "reasonCode": _NOT_FOR_YOU}
            )
        return {
            "resourceType": "virtualMachines", "name": size.name, "tier": "Standard", "size": size.name.partition("_")[2],
            "family": size.family, "locations": [region],
            "locationInfo": [{"location": region, "zones": zones, "zoneDetails": []}],
            "capabilities": [{"name": k, "value": v} for k, v in size.capabilities.items()], "restrictions": restrictions,
        }  # fmt: skip


def unavailable(name: str, region: str, zone: str, id_: str) -> Refusal:
    """`id_`: of the machine that there is not to be."""
    return Refusal(
        409, "SkuNotAvailable",
        f"The requested size for resource '{id_}' is currently not available in location '{region}' zones '{zone}' for "
        f"subscription '{SUBSCRIPTION}'. Please try another size or deploy to a different location or zones. See "
        "https://aka.ms/azureskunotavailable for details.", name,
    )  # fmt: skip


def _disk(name: str, region: str) -> dict[str, Any]:
    return {
        "resourceType": "disks", "name": name, "tier": name.partition("_")[0].rstrip("V2"), "size": "P10",
        "locations": [region], "locationInfo": [{"location": region, "zones": list(REGIONS[region].zones), "zoneDetails": []}],
        "capabilities": [{"name": "MaxSizeGiB", "value": "32767"}], "restrictions": [],
    }  # fmt: skip
