"""What is sold where: regions, zones, machine types, accelerators, disk types and public images, as Google names them today."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from clusterctl_providers import catalog

ZONES = (
    "us-central1-a", "us-central1-b", "us-central1-c", "us-central1-f",
    "us-east1-b", "us-east1-c", "us-east1-d",
    "europe-west4-a", "europe-west4-b", "europe-west4-c",
)  # fmt: skip
REGIONS = ("us-central1", "us-east1", "europe-west4")
ATTACHABLE = {  # to n1 only -> how many at once, and the quota that counts them
    "nvidia-tesla-t4": ((1, 2, 4), "NVIDIA_T4_GPUS"),
    "nvidia-tesla-p4": ((1, 2, 4), "NVIDIA_P4_GPUS"),
    "nvidia-tesla-v100": ((1, 2, 4, 8), "NVIDIA_V100_GPUS"),
    "nvidia-tesla-p100": ((1, 2, 4), "NVIDIA_P100_GPUS"),
}
BUNDLED = {  # by the beginning of the machine type's name -> accelerator, and the quota that counts it
    "a2-highgpu": ("nvidia-tesla-a100", "NVIDIA_A100_GPUS"),
    "a2-megagpu": ("nvidia-tesla-a100", "NVIDIA_A100_GPUS"),
    "a2-ultragpu": ("nvidia-a100-80gb", "NVIDIA_A100_80GB_GPUS"),
    "a3-highgpu": ("nvidia-h100-80gb", "NVIDIA_H100_GPUS"),
    "a3-megagpu": ("nvidia-h100-mega-80gb", "NVIDIA_H100_MEGA_GPUS"),
    "a3-edgegpu": ("nvidia-h100-80gb", "NVIDIA_H100_GPUS"),
    "a3-ultragpu": ("nvidia-h200-141gb", "NVIDIA_H200_GPUS"),
    "a4-highgpu": ("nvidia-b200", "NVIDIA_B200_GPUS"),
    "a4x-highgpu": ("nvidia-gb200", "NVIDIA_GB200_GPUS"),
    "g2-standard": ("nvidia-l4", "NVIDIA_L4_GPUS"),
    "g4-standard": ("nvidia-rtx-pro-6000", "NVIDIA_RTX_PRO_6000_GPUS"),
}
DISK_TYPES = {  # -> (GiB at least, at most)
    "pd-standard": (10, 65536),
    "pd-balanced": (10, 65536),
    "pd-ssd": (10, 65536),
    "pd-extreme": (500, 65536),
    "hyperdisk-balanced": (4, 65536),
    "hyperdisk-extreme": (64, 65536),
    "hyperdisk-throughput": (2048, 32768),
    "hyperdisk-ml": (4, 65536),
    "hyperdisk-balanced-high-availability": (4, 65536),
    "local-ssd": (375, 375),
}
HYPERDISK_ONLY = ("a3-ultragpu", "a4", "a4x", "c4", "c4a", "c4d", "g4", "h4d", "m4", "n4", "n4a", "n4d", "x4")
BOOTABLE = frozenset({"pd-standard", "pd-balanced", "pd-ssd", "pd-extreme", "hyperdisk-balanced", "hyperdisk-extreme"})
_SMALL = {"e2-micro": (2, 1), "e2-small": (2, 2), "e2-medium": (2, 4), "f1-micro": (1, 0.6), "g1-small": (1, 1.7)}


@dataclass(frozen=True)
class MachineType:
    """`vcpus` and `memory_mib` as machineTypes.get tells them; `accelerator` is "" for one without."""

    name: str
    vcpus: int
    memory_mib: int
    arm: bool = False
    accelerator: str = ""
    accelerators: int = 0
    shared: bool = False

    @property
    def family(self) -> str:
        return self.name.partition("-")[0]

    @property
    def disk_type(self) -> str:
        """That of a boot disk of which nothing is said."""
        if self.hyperdisk_only or self.family in ("a3", "h3", "z3"):
            return "hyperdisk-balanced"
        return "pd-balanced" if self.family in ("c3", "c3d", "m3") else "pd-standard"

    @property
    def hyperdisk_only(self) -> bool:
        return self.family in HYPERDISK_ONLY or self.name.rpartition("-")[0] in HYPERDISK_ONLY

    @property
    def local_ssds(self) -> bool:
        """Whether it has local SSDs of its own, which are there without being asked for."""
        bundled = ("a2-ultragpu", "a3-", "a4-", "a4x-")
        return self.name.endswith("-lssd") or self.name.startswith(bundled)


@cache
def machine_types() -> dict[str, MachineType]:
    found = {name: MachineType(name, n, int(gib * 1024), shared=True) for name, (n, gib) in _SMALL.items()}
    for row in catalog.instance_types("gcp"):
        if "+" in row.name:
            continue  # one with devices attached to it is no machine type of Google's
        if "+" in row.name:
            continue  # a machine type and what is attached to it
        accelerator, count = BUNDLED.get("-".join(row.name.split("-")[:2]), ("", ""))[0], int(row.gpu_count)
        if not accelerator:
            count = 0
        shared = row.name in _SMALL
        found[row.name] = MachineType(
            row.name, row.vcpus, int(row.memory_gib * 1024), row.arch == "arm64", accelerator, count, shared
        )
    return found


def machine_type(name: str) -> MachineType | None:
    """Also a custom one, such as n2-custom-4-8192."""
    if known := machine_types().get(name):
        return known
    if custom := re.fullmatch(r"(?:(n1|n2|n2d|n4|e2)-)?custom-(\d+)-(\d+)(?:-ext)?", name):
        return MachineType(name, int(custom.group(2)), int(custom.group(3)))
    return None


def region_of(zone: str) -> str:
    return zone.rpartition("-")[0]


@dataclass(frozen=True)
class PublicImage:
    project: str
    family: str
    name: str
    gib: int = 10
    arm: bool = False


_DLVM = "deeplearning-platform-release"
_ACCELERATOR = "ubuntu-os-accelerator-images"
_ACCELERATED = "ubuntu-accelerator-2404-{}-with-nvidia-580"
PUBLIC_IMAGES = (
    PublicImage("ubuntu-os-cloud", "ubuntu-2404-lts-amd64", "ubuntu-2404-noble-amd64-v20261112"),
    PublicImage("ubuntu-os-cloud", "ubuntu-2404-lts-arm64", "ubuntu-2404-noble-arm64-v20261112", arm=True),
    PublicImage("ubuntu-os-cloud", "ubuntu-2204-lts", "ubuntu-2204-jammy-v20261110"),
    PublicImage("ubuntu-os-cloud", "ubuntu-2204-lts-arm64", "ubuntu-2204-jammy-arm64-v20261110", arm=True),
    PublicImage("debian-cloud", "debian-12", "debian-12-bookworm-v20261110"),
    *(
        PublicImage(_DLVM, family, f"{family}-v20261104", 50)
        for family in (
            "common-cu129-ubuntu-2404-nvidia-580",
            "common-cu129-ubuntu-2204-nvidia-580",
            "pytorch-2-9-cu129-ubuntu-2404-nvidia-580",
        )
    ),
    PublicImage(_ACCELERATOR, _ACCELERATED.format("amd64"), _ACCELERATED.format("amd64") + "-v20261101"),
    PublicImage(_ACCELERATOR, _ACCELERATED.format("arm64"), _ACCELERATED.format("arm64") + "-v20261101", arm=True),
)
