"""Whose a thing is that takes no labels: firewall rules and placement policies say it in their description.

They belong to a cluster of one region, firewall rules too, which Google keeps for all regions of a network: whoever looks in
another region must not take them for leftovers of a cluster without machines.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clusterctl.core.errors import BadRequest
from clusterctl_providers.base import TAG_CLUSTER, TAG_UID

TAG_REGION = "clusterctl-region"


class NotOurs(BadRequest):
    """A thing that has one of our names is somebody else's."""


@dataclass(frozen=True)
class Owner:
    cluster: str
    uid: str
    region: str

    @property
    def note(self) -> str:
        """The description of what is this cluster's."""
        return f"{TAG_CLUSTER}={self.cluster} {TAG_UID}={self.uid} {TAG_REGION}={self.region}"

    def check(self, row: Mapping[str, Any], thing: str) -> None:
        """Raises NotOurs where `thing`, whose name is one of ours, is somebody else's."""
        found = owner_of(row)
        if found is None or found.uid != self.uid:
            raise NotOurs(
                f"{thing} is there already, and does not carry the uid of cluster {self.cluster} ({self.uid}): remove it, or "
                "name the cluster otherwise"
            )


def owner_of(row: Mapping[str, Any]) -> Owner | None:
    """By its labels where it has some, else by its description; None for what is none of ours."""
    labels = row.get("labels") or {}
    if TAG_UID in labels:
        return Owner(str(labels.get(TAG_CLUSTER, "")), str(labels[TAG_UID]), "")
    words = dict(re.findall(r"(clusterctl-\w+)=(\S*)", str(row.get("description") or "")))
    uid = words.get(TAG_UID)
    return Owner(words.get(TAG_CLUSTER, ""), uid, words.get(TAG_REGION, "")) if uid else None
