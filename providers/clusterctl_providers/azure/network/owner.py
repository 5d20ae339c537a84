"""Whose a thing is, by its tags. Azure takes a tag's name in any case for the same one, and may answer in another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clusterctl.core.errors import BadRequest
from clusterctl_providers.azure.names import tags_in
from clusterctl_providers.base import TAG_CLUSTER, TAG_UID


class NotOurs(BadRequest):
    """A thing that has one of our names is somebody else's."""


@dataclass(frozen=True)
class Owner:
    cluster: str
    uid: str

    def check(self, row: Mapping[str, Any], thing: str) -> None:
        """Raises NotOurs where `thing`, whose name is one of ours, is somebody else's."""
        found = owner_of(row)
        if found is None or found.uid != self.uid:
            raise NotOurs(
                f"{thing} is there already, and does not carry the uid of cluster {self.cluster} ({self.uid}): remove it, or "
                "name the cluster otherwise"
            )


def owner_of(row: Mapping[str, Any]) -> Owner | None:
    """None for what is none of ours."""
    tags = tags_in(row)
    return Owner(tags.get(TAG_CLUSTER, ""), tags[TAG_UID]) if TAG_UID in tags else None
