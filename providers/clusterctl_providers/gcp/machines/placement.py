"""Compact placement: the machines of a gang sit close together, by a policy for each pool and zone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from clusterctl.core.errors import ProviderError
from clusterctl_providers.gcp.calls import Calls
from clusterctl_providers.gcp.errors import is_missing, is_taken
from clusterctl_providers.gcp.network.firewall import OURS
from clusterctl_providers.gcp.network.owner import Owner, owner_of


class Placement:
    """Thread-safe. `part`: see `Firewall`."""

    def __init__(self, calls: Calls, owner: Callable[[], Owner], part: Callable[..., str]) -> None:
        self._calls, self._owner, self._part = calls, owner, part
        self._known: set[str] = set()
        self._lock = threading.Lock()

    def policy(self, pool: str, zone: str) -> str:
        """The name of the policy for nodes of that pool in that zone, made where it is missing."""
        name = self._part(pool, zone)
        with self._lock:
            if name not in self._known:
                self._make(name)
                self._known.add(name)
        return name

    def is_known(self, pool: str, zone: str) -> bool:
        """Whether it was made, or found, here before."""
        with self._lock:
            return self._part(pool, zone) in self._known

    def _make(self, name: str) -> None:
        body = {
            "name": name,
            "description": self._owner().note,
            "groupPlacementPolicy": {"collocation": "COLLOCATED"},
        }
        try:
            self._calls.run("POST", self._path(), f"making the placement policy {name}", body)
        except ProviderError as error:
            if not is_taken(error):
                raise
            found = self._calls.get(self._path(name), f"looking at the placement policy {name}")
            self._owner().check(found, f"a placement policy {name}")

    def forget(self) -> None:
        """Somebody may have deleted them."""
        with self._lock:
            self._known.clear()

    def mine(self) -> list[tuple[str, str]]:
        """(path, name) of the policies that are there."""
        uid = self._owner().uid
        return [(self._path(row["name"]), row["name"]) for row, owner in self._rows() if owner.uid == uid]

    def owners(self) -> Iterator[Owner]:
        for _, owner in self._rows():
            yield owner

    def _rows(self) -> Iterator[tuple[dict[str, Any], Owner]]:
        what = f"looking for placement policies of clusters in {self._calls.region}"
        for page in self._calls.pages(self._path(), what, filter=OURS):
            for row in page.get("items") or ():
                found = owner_of(row)
                if found is not None and row.get("status") != "DELETING":
                    yield row, found

    def _path(self, name: str = "") -> str:
        return f"regions/{self._calls.region}/resourcePolicies{f'/{name}' if name else ''}"


def is_gone(error: ProviderError) -> bool:
    """A launch was refused since Google does not know a placement policy (any more)."""
    told = ("was not found", "cannot be found")
    return "resourcePolicies" in str(error) and (is_missing(error) or any(words in str(error) for words in told))
