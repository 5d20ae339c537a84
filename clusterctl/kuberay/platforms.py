"""What nodes of Kubernetes are labelled with: by the cloud that manages it, or by NVIDIA's GPU feature discovery."""

from __future__ import annotations

from dataclasses import dataclass

from clusterctl.spec.providers.kind import Kubernetes
from clusterctl.spec.providers.kubernetes import DISCOVERED
from clusterctl.spec.providers.registry import KINDS

TYPE_LABEL = "node.kubernetes.io/instance-type"
ZONE_LABEL = "topology.kubernetes.io/zone"
GENERIC = DISCOVERED.name


@dataclass(frozen=True)
class Platform:
    """`provider`: whose machine types its nodes have, "" where that is not known."""

    provider: str
    kubernetes: Kubernetes


def platforms() -> dict[str, Platform]:
    """By the names that `--target` has."""
    managed = [(kind.name, kind.cloud.kubernetes) for kind in KINDS.values() if kind.cloud and kind.cloud.kubernetes]
    return {GENERIC: Platform("", DISCOVERED), **{known.name: Platform(name, known) for name, known in managed}}
