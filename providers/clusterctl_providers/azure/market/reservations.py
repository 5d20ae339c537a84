"""Capacity reservation groups, as `cloud.reservations` knows them.

A pool names a group by its name, or by its id where it lies in another resource group or subscription. What is free of it is
what its reservations hold less the VMs that are allocated in them; a group may hold several sizes and zones, and the first one
with something free is what the pool's nodes go into.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from clusterctl.core.errors import BadRequest, ProviderError
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.errors import is_missing
from clusterctl_providers.azure.names import name_in
from clusterctl_providers.azure.network.group import ResourceGroup
from clusterctl_providers.cloud.reservations import RESERVED, Reservation


class Lookup:
    """Called with what a pool writes. A name alone is looked up in the cluster's resource group, and where that has none, in the
    whole subscription."""

    def __init__(self, calls: Calls, group: ResourceGroup) -> None:
        self._calls, self._group = calls, group
        self._paths: dict[str, str] = {}

    def __call__(self, reservation: str) -> Reservation:
        """Raises ProviderError when Azure does not know it or does not answer."""
        path, what = self.path(reservation), f"looking up the capacity reservation group {reservation}"
        rows = self._calls.list(f"{path}/capacityReservations", what, _expand="instanceView")
        found = [_reservation(reservation, path, row) for row in rows]
        if not found:
            raise ProviderError(f"{what}: it reserves nothing; add a capacity reservation to it")
        return max(found, key=lambda one: one.free)

    def path(self, reservation: str) -> str:
        """The id of the group that a pool names."""
        if reservation.startswith("/"):
            return reservation.rstrip("/")
        if reservation not in self._paths:
            self._paths[reservation] = self._find(reservation)
        return self._paths[reservation]

    def _find(self, name: str) -> str:
        what = f"looking for the capacity reservation group {name}"
        own = self._group.path("Microsoft.Compute", "capacityReservationGroups", name)
        try:
            return str(self._calls.get(own, what)["id"])
        except BadRequest as error:
            if not is_missing(error):
                raise
        found = [link for link in self._all(what) if name_in(link) == name.lower()]
        if len(found) == 1:
            return found[0]
        if found:
            raise ProviderError(
                f"{what}: there are {len(found)} of that name; write the id of one ({', '.join(found)})"
            )
        raise ProviderError(f"{what}: the subscription {self._calls.subscription} has none in {self._calls.region}")

    def _all(self, what: str) -> Iterator[str]:
        path = self._calls.path("Microsoft.Compute", "capacityReservationGroups")
        for row in self._calls.list(path, what):
            if str(row.get("location") or "").lower() == self._calls.region:
                yield str(row["id"])


def market_of(row: Mapping[str, Any]) -> str:
    """The market of a VM as Azure shows it."""
    properties = row.get("properties") or {}
    if str(properties.get("priority") or "").lower() == "spot":
        return "spot"
    group = (properties.get("capacityReservation") or {}).get("capacityReservationGroup")
    return RESERVED if group else "on-demand"


def _reservation(name: str, path: str, row: Mapping[str, Any]) -> Reservation:
    """It has no window: it is there until its owner removes it."""
    properties, sku = row.get("properties") or {}, row.get("sku") or {}
    used = (properties.get("instanceView") or {}).get("utilizationInfo") or {}
    total = int(sku.get("capacity") or 0)
    there = int(used.get("currentCapacity") or total)
    state = str(properties.get("provisioningState") or "Succeeded").lower()
    return Reservation(
        id=name,
        instance_type=str(sku.get("name") or ""),
        zone=str(next(iter(row.get("zones") or ()), "")),
        total=total,
        free=max(there - len(used.get("virtualMachinesAllocated") or ()), 0),
        state="active" if state in ("succeeded", "updating") else state,
        group=path,
    )
