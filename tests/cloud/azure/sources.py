"""What a machine starts from: an image of the marketplace, of the user's, of a gallery; or a disk."""

from __future__ import annotations

from dataclasses import dataclass

from tests.cloud.azure.galleries import Galleries
from tests.cloud.azure.marketplace import Marketplace
from tests.cloud.azure.services import Call
from tests.cloud.azure.sizes import Size
from tests.cloud.azure.store import Resource, Store, parent_of
from tests.cloud.azure.world import Refusal, invalid

_ARCHITECTURES = {"x86_64": "x64", "arm64": "Arm64"}


@dataclass(frozen=True)
class Source:
    """`size`: GiB of its disk."""

    size: int
    architecture: str = "x64"
    generation: str = "V2"
    trusted: bool = True


class Sources:
    def __init__(self, store: Store, marketplace: Marketplace, galleries: Galleries) -> None:
        self._store, self._marketplace, self._galleries = store, marketplace, galleries

    def of(self, call: Call, resource: Resource, size: Size) -> Source:
        """Raises Refusal where it is not there, or does not fit the size."""
        properties = resource["properties"]
        reference = properties["storageProfile"].get("imageReference")
        if reference is None:
            if properties["storageProfile"]["osDisk"]["createOption"] != "Attach":
                raise invalid("imageReference", "Required parameter 'imageReference' is missing (null).")
            return Source(0)
        if link := reference.get("id"):
            call.need_linked(f"{_type(link)}/read", link)
        if reference.get("publisher"):
            _, reference["exactVersion"] = self._marketplace.launched(reference, resource.get("plan"))
        found = self.of_body(resource)
        self._check_fit(found, size, properties)
        return found

    def _check_fit(self, found: Source, size: Size, properties: Resource) -> None:
        if found.architecture != _ARCHITECTURES[size.arch]:
            message = (
                f"Cannot create a VM of size '{size.name}' because this VM size only supports a CPU Architecture of "
                f"'{_ARCHITECTURES[size.arch]}', but an image or disk with CPU Architecture '{found.architecture}' was given."
            )
            raise Refusal(400, "BadRequest", message)
        if found.generation not in size.generations:
            message = (
                f"The selected VM size '{size.name}' cannot boot Hypervisor Generation '{found.generation[1:]}'. If this was a "
                "Create operation please check that the Hypervisor Generation of the Image matches the Hypervisor Generation of "
                "the selected VM Size."
            )
            raise Refusal(400, "BadRequest", message)
        if (properties.get("securityProfile") or {}).get("securityType") == "TrustedLaunch":
            if not size.trusted:
                message = f"The VM size '{size.name}' is not supported for creation of VMs with 'TrustedLaunch' security type."
                raise Refusal(400, "BadRequest", message)
            if not found.trusted or found.generation != "V2":
                message = "The given image is not supported for Trusted Launch VMs: it must be of generation 2."
                raise Refusal(400, "BadRequest", message)

    def of_body(self, resource: Resource) -> Source:
        """Of a body that was looked at."""
        reference = resource["properties"]["storageProfile"].get("imageReference")
        if reference is None:
            return Source(0)
        if reference.get("publisher"):
            offered = self._marketplace.find(reference["publisher"], reference["offer"], reference["sku"])
            assert offered is not None
            return Source(offered.size, offered.architecture, offered.generation, "Trusted" in offered.security)
        for member in ("communityGalleryImageId", "sharedGalleryImageId"):
            if link := reference.get(member):
                return self._of_version(self._galleries.shares.find(link), link)
        link = reference.get("id", "")
        found = self._store.find(link)
        if found and found["type"] == "Microsoft.Compute/images":
            properties = found["properties"]
            size = properties["storageProfile"]["osDisk"].get("diskSizeGB") or 30
            return Source(size, "x64", properties.get("hyperVGeneration", "V1"), trusted=False)
        return self._of_version(
            self._newest(found) if found and found["type"].endswith("galleries/images") else found, link
        )

    def _newest(self, definition: Resource) -> Resource | None:
        versions = self._store.children(definition["id"], "Microsoft.Compute/galleries/images/versions")
        ready = [v for v in versions if v["properties"]["provisioningState"] == "Succeeded"]
        return max(ready, key=lambda v: tuple(int(n) for n in v["name"].split(".")), default=None)

    def _of_version(self, version: Resource | None, link: str) -> Source:
        if version is None:
            raise Refusal(404, "NotFound", f"The gallery image {link} is not available or does not exist.")
        definition = self._store.get(parent_of(version["id"]))["properties"]
        features = {f["name"]: f["value"] for f in definition.get("features") or ()}
        size = (version["properties"]["storageProfile"].get("osDiskImage") or {}).get("sizeInGB", 30)
        trusted = "Trusted" in features.get("SecurityType", "")
        return Source(size, definition.get("architecture", "x64"), definition.get("hyperVGeneration", "V1"), trusted)


def _type(link: str) -> str:
    parts = link.rpartition("/providers/")[2].split("/")
    return "/".join([parts[0], *parts[1::2]])
