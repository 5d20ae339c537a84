"""What a VM size can and cannot do: by the capabilities that Azure tells of it (Microsoft.Compute/skus), and where it tells
none, by what its name says (Microsoft's page on the naming of sizes, 2026-11).

    Standard_ND96isr_H100_v5     family ND, 96 vCPUs, features i s r (isolated, Premium disks, RDMA), H100, version 5
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

PREMIUM, STANDARD = "Premium_LRS", "StandardSSD_LRS"
_NAME = re.compile(r"(?:Standard|Basic)_(?P<family>[A-Z]+)\d+(?:-\d+)?(?P<features>[a-z]*)(?:_.*)?")
_ALWAYS_RDMA = ("HB", "HC", "HX")


@dataclass(frozen=True)
class Size:
    """What a VM's body follows from. Of what Azure does not tell, the disk that the name promises is asked for, and encryption
    at host where the settings want it."""

    name: str
    premium: bool  # takes Premium disks
    accelerated: bool = False  # its network card can be a slice of the host's own
    trusted: bool = False  # Trusted Launch
    host_encrypted: bool = False
    infiniband: bool = False
    generations: frozenset[str] = frozenset()  # of Hyper-V's machines that it is one of; none where that is not told
    controllers: frozenset[str] = frozenset({"SCSI"})  # by which it has its disks

    @property
    def disk_type(self) -> str:
        """Of its own disk, where the spec does not say."""
        return PREMIUM if self.premium else STANDARD


def size_of(name: str, capabilities: Mapping[str, str]) -> Size:
    """`capabilities`: as Azure tells them, empty where it does not."""
    found = _NAME.fullmatch(name)
    family, features = (found["family"], found["features"]) if found else ("", "")
    return Size(
        name,
        premium=_says(capabilities, "PremiumIO") if capabilities else "s" in features,
        accelerated=_says(capabilities, "AcceleratedNetworkingEnabled"),
        trusted="V2" in _listed(capabilities, "HyperVGenerations") and not _says(capabilities, "TrustedLaunchDisabled"),
        host_encrypted=_says(capabilities, "EncryptionAtHostSupported") or not capabilities,
        infiniband=_says(capabilities, "RdmaEnabled") or family in _ALWAYS_RDMA or "r" in features,
        generations=_listed(capabilities, "HyperVGenerations"),
        controllers=_listed(capabilities, "DiskControllerTypes") or frozenset({"SCSI"}),
    )


def _listed(capabilities: Mapping[str, str], name: str) -> frozenset[str]:
    return frozenset(filter(None, capabilities.get(name, "").replace(" ", "").split(",")))


def _says(capabilities: Mapping[str, str], name: str) -> bool:
    return capabilities.get(name, "").lower() == "true"
