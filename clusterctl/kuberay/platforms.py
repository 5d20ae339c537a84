"""What nodes of Kubernetes are labelled with: by the cloud that manages it, or by NVIDIA's GPU feature discovery."""

from __future__ import annotations

from dataclasses import dataclass

from clusterctl.spec.providers.kind import Kubernetes
from clusterctl.spec.providers.registry import KINDS

TYPE_LABEL = "node.kubernetes.io/instance-type"
ZONE_LABEL = "topology.kubernetes.io/zone"
GENERIC = "generic"


@dataclass(frozen=True)
class Platform:
    """`provider`: whose machine types its nodes have, "" where that is not known."""

    provider: str
    kubernetes: Kubernetes


_DISCOVERED = Kubernetes(
    GENERIC,
    gpu_label="nvidia.com/gpu.product",
    gpus={
        "A10": "NVIDIA-A10",
        "A100-40GB": "NVIDIA-A100-SXM4-40GB",
        "A100-80GB": "NVIDIA-A100-SXM4-80GB",
        "A10G": "NVIDIA-A10G",
        "H100": "NVIDIA-H100-80GB-HBM3",
        "H200": "NVIDIA-H200",
        "L4": "NVIDIA-L4",
        "L40S": "NVIDIA-L40S",
        "T4": "Tesla-T4",
    },
)


def platforms() -> dict[str, Platform]:
    """By the names that `--target` has."""
    managed = [(kind.name, kind.cloud.kubernetes) for kind in KINDS.values() if kind.cloud and kind.cloud.kubernetes]
    return {GENERIC: Platform("", _DISCOVERED), **{known.name: Platform(name, known) for name, known in managed}}
