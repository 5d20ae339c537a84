"""Machines of a gang sit close together: in a proximity placement group for each pool, zone and size, which is made before them.

Those with InfiniBand are in an availability set as well: only machines of one (or of a uniform scale set) reach each other by
it. An availability set is in no zone, and takes no spot machines: Azure places the set where it has them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clusterctl.core.errors import ProviderError
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.errors import code_behind, is_missing
from clusterctl_providers.azure.machines.series import Size
from clusterctl_providers.azure.network.group import ResourceGroup
from clusterctl_providers.cloud.removal import removed

PROXIMITY, SET = "proximityPlacementGroups", "availabilitySets"
_IN_USE = frozenset(
    {"OperationNotAllowed", "Conflict", "InUse", "ProximityPlacementGroupInUse", "CannotDeleteAvailabilitySet"}
)


@dataclass(frozen=True)
class Place:
    """Ids, "" for none."""

    proximity: str
    availability_set: str = ""


class Placement:
    """Thread-safe. `part`: a name for something that is made for the cluster."""

    def __init__(self, calls: Calls, group: ResourceGroup, part: Callable[..., str]) -> None:
        self._calls, self._group, self._part = calls, group, part
        self._known: set[str] = set()
        self._lock = threading.Lock()

    def place(self, pool: str, zone: str, size: Size, market: str) -> Place:
        """For nodes of that pool, made where it is missing. The resource group is there."""
        name = self._part(pool, zone or "any", size.name.removeprefix("Standard_").lower().replace("_", "-"))
        proximity = self._group.path("Microsoft.Compute", PROXIMITY, name)
        linked = size.infiniband and market != "spot"
        together = self._group.path("Microsoft.Compute", SET, name) if linked else ""
        with self._lock:
            if proximity not in self._known:
                self._make(proximity, self._proximity_body("" if linked else zone, size.name))
            if together and together not in self._known:
                self._make(together, self._set_body(proximity))
        return Place(proximity, together)

    def _proximity_body(self, zone: str, size: str) -> dict[str, Any]:
        properties = {"proximityPlacementGroupType": "Standard", "intent": {"vmSizes": [size]}}
        return {**self._body(properties), **({"zones": [zone]} if zone else {})}

    def _set_body(self, proximity: str) -> dict[str, Any]:
        domains = {"platformFaultDomainCount": 1, "platformUpdateDomainCount": 1}
        return {**self._body({**domains, "proximityPlacementGroup": {"id": proximity}}), "sku": {"name": "Aligned"}}

    def _body(self, properties: dict[str, Any]) -> dict[str, Any]:
        return {"location": self._calls.region, "tags": self._group.tags(), "properties": properties}

    def _make(self, path: str, body: dict[str, Any]) -> None:
        """A PUT of what is there already changes nothing of it."""
        what = f"making {_words(path)}"
        if (found := self._find(path)) is None:
            self._calls.run("PUT", path, what, body)
        else:
            self._group.owner().check(found, _words(path))
        self._known.add(path)

    def _find(self, path: str) -> dict[str, Any] | None:
        try:
            return self._calls.get(path, f"looking for {_words(path)}")
        except ProviderError as error:
            if is_missing(error):
                return None
            raise

    def forget(self) -> None:
        """Somebody may have deleted them."""
        with self._lock:
            self._known.clear()

    def release(self, place: Place) -> None:
        """After a gang that was not to be had: an empty group may be pinned to where it was looked for. One with machines in it
        stays."""
        for path in filter(None, (place.availability_set, place.proximity)):
            self._remove(path)

    def _remove(self, path: str) -> None:
        with self._lock:
            self._known.discard(path)
        removed(
            lambda: self._calls.run("DELETE", path, f"removing {_words(path)}"),
            _words(path),
            is_missing,
            lambda error: code_behind(error) in _IN_USE,
        )


def is_gone(error: ProviderError) -> bool:
    """A launch was refused since Azure does not know where its machines are to be placed (any more)."""
    text = str(error).lower()
    return any(f"/{kind.lower()}/" in text for kind in (PROXIMITY, SET)) and "not found" in text


def _words(path: str) -> str:
    kind, name = path.split("/")[-2:]
    return f"the {'availability set' if kind == SET else 'proximity placement group'} {name}"
