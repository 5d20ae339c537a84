"""Where images that clusterctl makes are kept: a gallery for each region, in a resource group of its own for all builds and
clusters of the subscription. An image is one definition in it, with one version.

A managed image would be less to make, and takes no trusted launch.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from clusterctl.core.errors import ProviderError
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.errors import is_missing
from clusterctl_providers.azure.names import tags_in
from clusterctl_providers.cloud.image_store import TAG_IMAGE

GROUP = "clusterctl-images"
VERSION = "1.0.0"
GIB = 1024**3
_STATES = {"creating": "pending", "updating": "pending", "migrating": "pending", "succeeded": "available"}


class Gallery:
    """That of the calls' region."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    @property
    def id(self) -> str:
        name = f"clusterctl_{self._calls.region}"
        return self._calls.path("Microsoft.Compute", "galleries", name, group=GROUP)

    def definition(self, name: str) -> str:
        return f"{self.id}/images/{name}"

    def version(self, name: str) -> str:
        return f"{self.definition(name)}/versions/{VERSION}"

    def ensure(self, tags: Mapping[str, str]) -> None:
        """Makes group and gallery where they are missing; they stay when their last image goes, and cost nothing."""
        if self._read(self.id, f"looking for the gallery of {self._calls.region}") is not None:
            return
        region = {"location": self._calls.region, "tags": dict(tags)}
        group = self._calls.path(group=GROUP)
        if self._read(group, f"looking for the resource group {GROUP}") is None:
            self._calls.ask("PUT", group, f"making the resource group {GROUP}", region)
        body = {**region, "properties": {"description": "images made by clusterctl"}}
        self._calls.run("PUT", self.id, f"making the gallery of {self._calls.region}", body)

    def definitions(self) -> list[dict[str, Any]]:
        """Those that builds have made, whoever ran them."""
        rows = self._list(f"{self.id}/images", f"listing the images made by clusterctl in {self._calls.region}")
        return [row for row in rows if TAG_IMAGE in tags_in(row) and _word(row) != "deleting"]

    def versions(self, definition: str) -> list[dict[str, Any]]:
        rows = self._list(f"{definition}/versions", f"listing the versions of {definition.rpartition('/')[2]}")
        return [row for row in rows if _word(row) != "deleting"]

    def _list(self, path: str, what: str) -> list[dict[str, Any]]:
        try:
            return self._calls.list(path, what)
        except ProviderError as error:
            if is_missing(error):
                return []
            raise

    def _read(self, path: str, what: str) -> dict[str, Any] | None:
        try:
            return self._calls.get(path, what)
        except ProviderError as error:
            if is_missing(error):
                return None
            raise


def state_of(row: Mapping[str, Any]) -> str:
    """pending, available, or Azure's word for a failure."""
    word = _word(row)
    return _STATES.get(word, word)


def content_of(row: Mapping[str, Any]) -> str:
    return tags_in(row).get(TAG_IMAGE, "")


def made_at(row: Mapping[str, Any]) -> float:
    """Unix seconds, 0 where it is not told."""
    profile = (row.get("properties") or {}).get("publishingProfile") or {}
    text = str(profile.get("publishedDate") or (row.get("systemData") or {}).get("createdAt") or "")
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else 0.0


def size_of(version: Mapping[str, Any]) -> int:
    disk = ((version.get("properties") or {}).get("storageProfile") or {}).get("osDiskImage") or {}
    return int(disk.get("sizeInGB") or 0) * GIB


def _word(row: Mapping[str, Any]) -> str:
    return str((row.get("properties") or {}).get("provisioningState") or "Succeeded").lower()
