"""Which VM sizes Azure sells to the subscription in the region, where, and what each can do (Microsoft.Compute/skus).

One list of some thousand sizes with all that is known of each, read once an hour. A size that the region has may still be closed
to the subscription, wholly or in some of the zones; a zone's number means another building in each subscription.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.cloud.offers import LAST

ANYWHERE = ""  # the zone of a machine for which Azure chooses one, as in regions that have none
_MACHINES = "virtualMachines"


@dataclass(frozen=True)
class Sku:
    """`zones`: those where the subscription may have it, or ANYWHERE alone; none of them: nowhere. `closed`: Azure's word for
    that, "" for a size that is sold. `family`: the quota that it counts against."""

    name: str
    family: str
    zones: frozenset[str]
    closed: str
    capabilities: Mapping[str, str]

    def says(self, name: str) -> bool:
        """Of a capability that is there or not."""
        return self.capabilities.get(name, "").lower() == "true"

    @property
    def spot(self) -> bool:
        return self.says("LowPriorityCapable")


class Skus:
    """Thread-safe. Raises ProviderError where Azure has no answer."""

    def __init__(self, calls: Calls, clock: Callable[[], float] = time.monotonic) -> None:
        self._calls, self._clock = calls, clock
        self._found: dict[str, Sku] = {}
        self._zones: tuple[str, ...] = ()
        self._until = float("-inf")
        self._lock = threading.Lock()

    def all(self) -> Mapping[str, Sku]:
        """Size -> what Azure says of it in this region."""
        self._look()
        return self._found

    def of(self, name: str) -> Sku | None:
        """None for what the region does not have."""
        return self.all().get(name)

    def capabilities(self, name: str) -> Mapping[str, str]:
        """Of a size, as Azure calls them; none of one that it does not list."""
        sku = self.of(name)
        return sku.capabilities if sku else {}

    def zones(self) -> Sequence[str]:
        """Those of the region, and ANYWHERE: some sizes of a region with zones are in none of them."""
        self._look()
        return [*self._zones, ANYWHERE]

    def _look(self) -> None:
        with self._lock:
            if self._clock() < self._until:
                return
            region = self._calls.region
            what = f"asking which sizes {region} has"
            rows = self._calls.list(
                self._calls.path("Microsoft.Compute", "skus"), what, _filter=f"location eq '{region}'"
            )
            machines = [row for row in rows if row.get("resourceType") == _MACHINES]
            self._found = {sku.name: sku for row in machines if (sku := read_sku(row, region)) is not None}
            self._zones = tuple(sorted({zone for row in machines for zone in _zones_in(row, region)}))
            self._until = self._clock() + LAST


def read_sku(row: Mapping[str, Any], region: str) -> Sku | None:
    """A size in that region; None where the row is of others."""
    if not any(_same(place, region) for place in row.get("locations") or ()):
        return None
    closed, lacking = "", set[str]()
    for limit in row.get("restrictions") or ():
        reason = str(limit.get("reasonCode") or "NotAvailableForSubscription")
        if limit.get("type") == "Zone":
            lacking |= set((limit.get("restrictionInfo") or {}).get("zones") or ())
        elif any(_same(place, region) for place in _places(limit)):
            closed = reason
    zones = frozenset(_zones_in(row, region)) - lacking or frozenset({ANYWHERE})
    told = {str(each.get("name")): str(each.get("value")) for each in row.get("capabilities") or ()}
    return Sku(str(row["name"]), str(row.get("family") or ""), frozenset() if closed else zones, closed, told)


def _zones_in(row: Mapping[str, Any], region: str) -> Iterator[str]:
    for info in row.get("locationInfo") or ():
        if _same(info.get("location"), region):
            yield from map(str, info.get("zones") or ())


def _places(limit: Mapping[str, Any]) -> Sequence[str]:
    """Where a size is closed: newer answers say it apart, older ones in the values alone."""
    return (limit.get("restrictionInfo") or {}).get("locations") or limit.get("values") or ()


def _same(place: object, region: str) -> bool:
    """Azure writes eastus here and EastUS there."""
    return str(place).lower().replace(" ", "") == region.lower()
