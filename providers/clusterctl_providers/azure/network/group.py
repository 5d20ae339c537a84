"""The resource group in which a cluster lives: one of its own, which takes all that is in it along when it goes, or the user's,
which stays, and in which only what carries the cluster's uid is touched."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from clusterctl.core.errors import BadRequest, NotYet, ProviderError
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.errors import is_missing
from clusterctl_providers.azure.network.owner import Owner, owner_of
from clusterctl_providers.base import TAG_CLUSTER, TAG_UID
from clusterctl_providers.cloud.naming import made_name

LAST = 600.0  # seconds that a group is believed to be there
LONGEST_NAME = 90
_DELETING = "deleting"


class ResourceGroup:
    """Thread-safe."""

    def __init__(
        self,
        calls: Calls,
        settings: Mapping[str, Any],
        cluster: str,
        uid: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._calls, self._settings = calls, settings
        self._cluster, self._uid, self._clock = cluster, uid, clock
        self._until = 0.0
        self._lock = threading.RLock()

    @property
    def is_ours(self) -> bool:
        """Made for the cluster, and removed with it."""
        return not self._settings.get("resource_group")

    @property
    def name(self) -> str:
        given = str(self._settings.get("resource_group") or "")
        return given or made_name(self._cluster, self._uid, longest=LONGEST_NAME)

    def path(self, *parts: str) -> str:
        """The id of something in it: path("Microsoft.Compute", "disks", "d"); its own without any."""
        return self._calls.path(*parts, group=self.name)

    def setting(self, name: str, provider: str, kind: str) -> str:
        """The id of what a setting names, by its id or by its name in the group; "" where it names nothing."""
        given = str(self._settings.get(name) or "")
        return given if not given or given.startswith("/") else self.path(provider, kind, given)

    def owner(self) -> Owner:
        return Owner(self._cluster, self._uid)

    def tags(self, **more: str) -> dict[str, str]:
        """For something new; the user's never replace ours."""
        users = {key: str(value) for key, value in dict(self._settings.get("tags") or {}).items()}
        return {**users, **more, TAG_CLUSTER: self._cluster, TAG_UID: self._uid}

    # ------------------------------------------------------------ there

    def ensure(self) -> None:
        """Makes the cluster's own where it is missing. Raises BadRequest where the user's is missing, or is being deleted, and
        NotYet while the cluster's own is."""
        with self._lock:
            if self._clock() < self._until:
                return
            found = self.find()
            if found is None:
                self._make()
            else:
                self._check(found)
            self._until = self._clock() + LAST

    def find(self) -> dict[str, Any] | None:
        what = f"looking for the resource group {self.name}"
        try:
            return self._calls.get(self.path(), what)
        except ProviderError as error:
            if is_missing(error):
                return None
            raise

    def _make(self) -> None:
        if not self.is_ours:
            raise BadRequest(
                f"the subscription {self._calls.subscription} has no resource group {self.name!r}: make it (`az group create "
                f"--name {self.name} --location {self._calls.region}`), name another under `resource_group` of `provider: "
                "{azure: ...}`, or leave it out, and the cluster gets one of its own"
            )
        body = {"location": self._calls.region, "tags": self.tags()}
        self._calls.ask("PUT", self.path(), f"making the resource group {self.name}", body)

    def _check(self, found: Mapping[str, Any]) -> None:
        if _state(found) == _DELETING:
            text = f"the resource group {self.name} is being deleted, with all that is in it"
            if self.is_ours:
                raise NotYet(f"waiting: {text}", retry_after=5.0)
            raise BadRequest(
                f"{text}: name another one under `resource_group`, or wait until it is gone and make it again"
            )
        if self.is_ours:
            self.owner().check(found, f"a resource group {self.name}")

    def forget(self) -> None:
        """It is looked for anew before the next launch."""
        self._until = 0.0

    # ------------------------------------------------------------ what is in it

    def resources(self) -> Iterator[dict[str, Any]]:
        """All that it holds, whoever made it; nothing where it is not there."""
        what = f"listing what the resource group {self.name} holds"
        try:
            for page in self._calls.pages(f"{self.path()}/resources", what):
                yield from page.get("value") or ()
        except ProviderError as error:
            if not is_missing(error):
                raise

    def foreign(self, rows: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> list[str]:
        """Ids of those that neither carry the cluster's uid nor are part of something that does."""
        everything = list(rows)
        ours = [str(row["id"]).lower() for row in everything if self._has_our_uid(row)]
        others = [str(row["id"]) for row in everything if not self._has_our_uid(row)]
        return [i for i in others if not any(i.lower().startswith(f"{own}/") for own in ours)]

    def _has_our_uid(self, row: Mapping[str, Any]) -> bool:
        found = owner_of(row)
        return found is not None and found.uid == self._uid

    # ------------------------------------------------------------ and removed

    def remove(self) -> list[str]:
        """Of the cluster's own all that is in it goes along. Sentences of what has to wait: it takes a minute. Raises BadRequest
        where somebody else keeps things there: the group stays, and so do they."""
        found = self.find() if self.is_ours else None
        if found is None:
            return []
        self.owner().check(found, f"a resource group {self.name}")
        if _state(found) != _DELETING:
            self._refuse_to_take_along(self.foreign(self.resources()))
            self._calls.change("DELETE", self.path(), f"removing the resource group {self.name}")
            self.forget()
        return [f"the resource group {self.name} is being removed"]

    def _refuse_to_take_along(self, foreign: list[str]) -> None:
        if foreign:
            base = f"{self.path()}/providers/"
            named = ", ".join(sorted(i.removeprefix(base) for i in foreign)[:5])
            raise BadRequest(
                f"the resource group {self.name} holds what clusterctl did not make ({named}), and would take it along: move "
                "that elsewhere or delete it, then again"
            )

    def clusters(self) -> list[tuple[str, str]]:
        """(cluster, uid) of the groups of clusters in this region; where the settings name a group, of what that one holds."""
        if not self.is_ours:
            rows: Iterator[dict[str, Any]] | list[dict[str, Any]] = self.resources()
        else:
            path, what = f"{self._calls.path()}/resourcegroups", "looking for resource groups of clusters"
            rows = [row for row in self._calls.list(path, what, _filter=f"tagName eq '{TAG_UID}'") if _is_alive(row)]
        here = [row for row in rows if _place(str(row.get("location") or "")) == self._calls.region]
        owners = {owner for row in here if (owner := owner_of(row)) is not None}
        return sorted((owner.cluster, owner.uid) for owner in owners)


def _state(row: Mapping[str, Any]) -> str:
    return str((row.get("properties") or {}).get("provisioningState") or "").lower()


def _is_alive(row: Mapping[str, Any]) -> bool:
    """One that is being deleted is nobody's to remove."""
    return _state(row) != _DELETING


def _place(location: str) -> str:
    """A region's name: Azure also writes "East US" for eastus."""
    return location.replace(" ", "").lower()
