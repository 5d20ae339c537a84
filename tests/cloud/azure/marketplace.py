"""Images of the marketplace, by publisher, offer, SKU and version, and whether the terms of those that are sold are accepted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.cloud.azure.services import Call, Services
from tests.cloud.azure.world import Refusal, World

GIB = 1024**3


@dataclass
class Offered:
    """`plan` is its name where the image is sold. `versions`: version -> state of its deprecation."""

    publisher: str
    offer: str
    sku: str
    versions: dict[str, str]
    architecture: str = "x64"
    generation: str = "V2"
    security: str = "TrustedLaunchSupported"
    controllers: str = "SCSI, NVMe"
    plan: str = ""
    system: str = "Linux"
    size: int = 30  # GiB

    @property
    def key(self) -> tuple[str, str, str]:
        return self.publisher.lower(), self.offer.lower(), self.sku.lower()

    def reference(self, version: str) -> dict[str, str]:
        return {"publisher": self.publisher, "offer": self.offer, "sku": self.sku, "version": version}


def usual() -> list[Offered]:
    """Those that are there from the beginning."""
    dates = {f"24.04.2026{month:02d}{day:02d}0": "Active" for month, day in ((9, 4), (10, 9), (11, 10))}
    return [
        Offered("Canonical", "ubuntu-24_04-lts", "server", dict(dates)),
        Offered("Canonical", "ubuntu-24_04-lts", "server-arm64", dict(dates), architecture="Arm64"),
        Offered("Canonical", "ubuntu-24_04-lts", "server-gen1", dict(dates), generation="V1", security=""),
        Offered("microsoft-dsvm", "ubuntu-hpc", "2204", {"22.04.2026090101": "Active"}, size=64),
        Offered("nvidia", "ngc-gpu-image", "gen2", {"26.3.1": "Active"}, plan="gen2"),
        Offered("MicrosoftWindowsServer", "WindowsServer", "2022", {"20348.1": "Active"}, system="Windows", size=127),
    ]


@dataclass
class Marketplace:
    world: World
    offers: list[Offered] = field(default_factory=usual)
    accepted: set[tuple[str, str, str]] = field(default_factory=set)  # (publisher, product, plan), in small letters

    def install(self, services: Services) -> None:
        services.on("virtualMachineImages.list", self._versions)
        services.on("virtualMachineImages.get", self._version)
        services.on("marketplaceAgreements.get", self._terms)

    def find(self, publisher: str, offer: str, sku: str) -> Offered | None:
        wanted = (publisher.lower(), offer.lower(), sku.lower())
        return next((each for each in self.offers if each.key == wanted), None)

    def launched(self, reference: dict[str, Any], plan: dict[str, Any] | None) -> tuple[Offered, str]:
        """What a machine starts from, and its version. Refuses what there is not, and what is sold without its plan, or without
        anybody having accepted its terms."""
        found = self.find(*(str(reference.get(key)) for key in ("publisher", "offer", "sku")))
        version = str(reference.get("version"))
        if found is not None and version == "latest":
            version = max(found.versions)
        if found is None or version not in found.versions:
            named = ":".join(str(reference.get(key)) for key in ("publisher", "offer", "sku", "version"))
            message = f"The platform image '{named}' is not available. Verify that all fields in the storage profile are correct."
            raise Refusal(404, "PlatformImageNotFound", message, "imageReference")
        if found.plan:
            self._check_plan(found, plan)
        return found, version

    def _check_plan(self, offered: Offered, plan: dict[str, Any] | None) -> None:
        wanted = {"name": offered.plan, "publisher": offered.publisher, "product": offered.offer}
        if {key: (plan or {}).get(key) for key in wanted} != wanted:
            raise Refusal(
                400, "VMMarketplaceInvalidInput",
                "Creating a virtual machine from Marketplace image or a custom image sourced from a Marketplace image requires "
                f"Plan information in the request. OS disk name is '{offered.sku}'.",
            )  # fmt: skip
        if (offered.publisher.lower(), offered.offer.lower(), offered.plan.lower()) not in self.accepted:
            raise Refusal(
                400, "MarketplacePurchaseEligibilityFailed",
                "Marketplace purchase eligibilty check returned errors. See inner errors for details. You have not accepted the "
                f"legal terms on this subscription for this plan: offer with publisher: '{offered.publisher}', product: "
                f"'{offered.offer}', sku: '{offered.plan}'.",
            )  # fmt: skip

    # ------------------------------------------------------------ answers

    def _named(self, call: Call) -> Offered:
        found = self.find(call.path["publisherName"], call.path["offer"], call.path["skus"])
        if found is None:
            message = f"Artifact: VMImage was not found: {call.path['publisherName']}:{call.path['offer']}:{call.path['skus']}"
            raise Refusal(404, "NotFound", message)
        return found

    def _versions(self, call: Call) -> list[dict[str, Any]]:
        found = self._named(call)
        return [{"id": f"{call.id}/{v}", "name": v, "location": call.path["location"]} for v in found.versions]

    def _version(self, call: Call) -> dict[str, Any]:
        found, version = self._named(call), call.path["version"]
        if version not in found.versions:
            raise Refusal(404, "NotFound", f"Artifact: VMImage was not found: {version}")
        features = [("SecurityType", found.security), ("DiskControllerTypes", found.controllers)]
        properties: dict[str, Any] = {
            "architecture": found.architecture, "hyperVGeneration": found.generation,
            "osDiskImage": {"operatingSystem": found.system, "sizeInGb": found.size}, "dataDiskImages": [],
            "automaticOSUpgradeProperties": {"automaticOSUpgradeSupported": False},
            "features": [{"name": name, "value": value} for name, value in features if value],
            "imageDeprecationStatus": {"imageState": found.versions[version]},
        }  # fmt: skip
        if found.plan:
            properties["plan"] = {"name": found.plan, "publisher": found.publisher, "product": found.offer}
        return {"id": call.id, "name": version, "location": call.path["location"], "properties": properties}

    def _terms(self, call: Call) -> dict[str, Any]:
        key = tuple(call.path[each] for each in ("publisherId", "offerId", "planId"))
        found = next((o for o in self.offers if o.plan and (o.publisher, o.offer, o.plan) == key), None)
        if found is None:
            raise Refusal(
                400, "BadRequest", f"Offer with PublisherId: '{key[0]}', OfferId: '{key[1]}' cannot be purchased."
            )
        accepted = tuple(part.lower() for part in key) in self.accepted
        return {
            "id": call.id, "name": key[2], "type": "Microsoft.MarketplaceOrdering/offertypes",
            "properties": {"publisher": key[0], "product": key[1], "plan": key[2], "accepted": accepted},
        }  # fmt: skip
