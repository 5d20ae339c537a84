"""VM sizes of the pretended Azure: the catalogue's, with the capabilities that Azure tells of such ones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from clusterctl_providers import catalog

# Families that Azure calls by no rule, by what comes of a size's name without its cores.
_FAMILIES = {
    "NCas_T4_v3": "Standard NCASv3_T4 Family",
    "NCads_A100_v4": "StandardNCADSA100v4Family",
    "NDasr_v4": "standardNDASv4_A100Family",
    "NDamsr_A100_v4": "standardNDAMSv4_A100Family",
    "NCads_H100_v5": "StandardNCadsH100v5Family",
    "NDisr_H100_v5": "standardNDSH100v5Family",
}
_NAME = re.compile(r"Standard_(?P<letters>[A-Z]+)(?P<cores>\d+)(-\d+)?(?P<features>[a-z]*)(?P<rest>_.*)?")


@dataclass(frozen=True)
class Size:
    """`family`: the quota that it counts against. `generations`: of Hyper-V, that its images may be of. `controllers`: by which
    it has disks."""

    name: str
    family: str
    vcpus: int
    memory_gib: float
    arch: str
    gpus: int
    spot: bool
    premium: bool
    generations: tuple[str, ...]
    controllers: tuple[str, ...]
    rdma: bool
    trusted: bool

    @property
    def most_disks(self) -> int:
        return min(64, 4 * self.vcpus)

    @property
    def capabilities(self) -> dict[str, str]:
        found = {
            "MaxResourceVolumeMB": "0", "OSVhdSizeMB": "1047552", "vCPUs": str(self.vcpus),
            "HyperVGenerations": ",".join(self.generations), "MemoryGB": f"{self.memory_gib:g}",
            "MaxDataDiskCount": str(self.most_disks), "CpuArchitectureType": "Arm64" if self.arch == "arm64" else "x64",
            "LowPriorityCapable": str(self.spot), "PremiumIO": str(self.premium), "VMDeploymentTypes": "IaaS",
            "vCPUsAvailable": str(self.vcpus), "vCPUsPerCore": "2", "EphemeralOSDiskSupported": "False",
            "EncryptionAtHostSupported": "True", "CapacityReservationSupported": "True",
            "AcceleratedNetworkingEnabled": "True", "RdmaEnabled": str(self.rdma), "MaxNetworkInterfaces": "2",
            "DiskControllerTypes": ",".join(self.controllers),
        }  # fmt: skip
        if self.gpus:
            found["GPUs"] = str(self.gpus)
        if not self.trusted:
            found["TrustedLaunchDisabled"] = "True"
        return found


@cache
def sizes() -> dict[str, Size]:
    """By their name in small letters: Azure takes any case."""
    return {m.name.lower(): _size(m) for m in catalog.instance_types("azure")}


def _size(machine: catalog.InstanceType) -> Size:
    found = _NAME.fullmatch(machine.name)
    assert found is not None, machine.name
    letters, features, rest = found["letters"], found["features"], found["rest"] or ""
    newest = rest.endswith(("_v6", "_v7")) or "GB200" in rest
    old = rest.endswith(("_v2", "_v3")) and letters in ("ND", "NC", "NV")
    return Size(
        name=machine.name,
        family=_FAMILIES.get(
            f"{letters}{features}{rest}", f"standard{letters}{features.upper()}{rest.replace('_', '')}Family"
        ),
        vcpus=machine.vcpus,
        memory_gib=machine.memory_gib,
        arch=machine.arch,
        gpus=int(machine.gpu_count),
        spot=letters != "B",
        premium="s" in features,
        generations=("V2",) if newest or machine.arch == "arm64" or "H100" in rest else ("V1", "V2"),
        controllers=("NVMe",) if newest else ("SCSI",),
        rdma=letters.startswith("HB") or "r" in features,
        trusted=not old,
    )


def title_of(family: str) -> str:
    """As the list of quotas calls it."""
    plain = re.fullmatch(r"standard ?(.+?) ?family", family, re.IGNORECASE)
    return f"Standard {plain[1]} Family vCPUs" if plain else family
