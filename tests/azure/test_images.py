"""Which image a node starts from: what the pool names, or the usual one; told before anything is launched where there is none."""

from __future__ import annotations

from typing import Any

import pytest
from clusterctl_providers.azure.images.lookup import GIB, Images

from clusterctl.core.errors import BadRequest, ProviderError
from tests.azure.parts import Parts
from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.marketplace import Offered
from tests.cloud.azure.world import REGION


@pytest.fixture
def parts(cloud: AzureCloud) -> Parts:
    return Parts(cloud)


def find(parts: Parts, wanted: str = "", arch: str = "x86_64", *, nvidia: bool = False) -> Any:
    return Images(parts.calls, clock=lambda: parts.now).find(wanted, arch, nvidia)


def refused(parts: Parts, wanted: str, arch: str = "x86_64") -> str:
    with pytest.raises(BadRequest) as caught:
        find(parts, wanted, arch)
    return str(caught.value)


# ------------------------------------------------------------ the marketplace


def test_the_usual_image_is_the_newest_ubuntu_of_the_architecture_or_the_one_with_nvidias_driver(parts: Parts) -> None:
    plain, arm, gpu = find(parts), find(parts, arch="arm64"), find(parts, nvidia=True)
    assert plain.id == "Canonical:ubuntu-24_04-lts:server:24.04.202611100"
    assert plain.reference == {
        "publisher": "Canonical", "offer": "ubuntu-24_04-lts", "sku": "server", "version": "24.04.202611100",
    }  # fmt: skip
    assert (plain.generation, plain.trusted, plain.plan, plain.driver) == ("V2", True, None, False)
    assert plain.controllers == {"SCSI", "NVMe"}
    assert arm.id.startswith("Canonical:ubuntu-24_04-lts:server-arm64:") and arm.arch == "arm64"
    assert gpu.id.startswith("microsoft-dsvm:ubuntu-hpc:2204:") and gpu.driver and gpu.size == 64 * GIB
    with pytest.raises(BadRequest, match="no image with NVIDIA's driver for arm64: name an `image` of the pool"):
        find(parts, arch="arm64", nvidia=True)


def test_versions_are_numbers_and_the_latest_is_looked_for_once_in_a_process(parts: Parts) -> None:
    parts.cloud.marketplace.offers.append(Offered("acme", "os", "s", {"1.0.9": "Active", "1.0.10": "Active"}))
    images = Images(parts.calls, clock=lambda: parts.now)
    assert images.find("acme:os:s:latest", "x86_64", False).id == "acme:os:s:1.0.10"
    since = len(parts.cloud.world.calls)
    assert images.find("acme:os:s:latest", "x86_64", False) and len(parts.cloud.world.calls) == since
    assert find(parts, "acme:os:s:1.0.9").reference["version"] == "1.0.9"


def test_a_version_that_was_taken_away_is_looked_for_anew_but_not_one_that_the_user_named(parts: Parts) -> None:
    offered = Offered("acme", "os", "s", {"1.0.1": "Active", "1.0.2": "Active"})
    parts.cloud.marketplace.offers.append(offered)
    images = Images(parts.calls, clock=lambda: parts.now)
    first = images.find("acme:os:s:latest", "x86_64", False)
    del offered.versions["1.0.2"]
    parts.calls.ask("PUT", parts.calls.path(group="corp"), "making", {"location": REGION})
    with pytest.raises(ProviderError) as caught:
        parts.calls.get(f"{parts.calls.path('Microsoft.Compute', 'images', 'gone', group='corp')}", "launching")
    gone = caught.value
    assert not images.forget(gone, "acme:os:s:1.0.2") and not images.forget(gone, "acme:os:s:latest"), "a moment ago"
    parts.now += 120
    assert not images.forget(BadRequest("of something else"), "acme:os:s:latest")
    assert images.forget(gone, "acme:os:s:latest")
    assert first.id != images.find("acme:os:s:latest", "x86_64", False).id == "acme:os:s:1.0.1"


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (
            "nobodys:os:s:latest",
            "looking up the image nobodys:os:s:latest in eastus: there is none, or it is not shared",
        ),
        ("Canonical:ubuntu-24_04-lts:server:1.2.3", "there is none"),
        ("Canonical:ubuntu-24_04-lts:server-arm64:latest", "is for arm64, the instance type is x86_64"),
        ("MicrosoftWindowsServer:WindowsServer:2022:latest", "is for Windows: nodes are machines with Linux"),
        ("ubuntu", "is no image of Azure's: write PUBLISHER:OFFER:SKU:VERSION"),
    ],
)
def test_what_is_no_image_for_the_node_is_told(parts: Parts, wanted: str, says: str) -> None:
    assert says in refused(parts, wanted)


def test_a_deprecated_image_is_told_and_one_of_the_first_generation_takes_no_trusted_launch(parts: Parts) -> None:
    parts.cloud.marketplace.offers.append(Offered("acme", "os", "s", {"1.0.0": "Deprecated"}))
    assert "is deprecated" in refused(parts, "acme:os:s:1.0.0")
    old = find(parts, "Canonical:ubuntu-24_04-lts:server-gen1:latest")
    assert (old.generation, old.trusted) == ("V1", False)


def test_an_image_that_is_sold_has_its_plan_and_its_terms_are_accepted_by_nobody_but_the_user(parts: Parts) -> None:
    said = refused(parts, "nvidia:ngc-gpu-image:gen2:latest")
    assert "its terms are not accepted in the subscription" in said
    assert "`az vm image terms accept --urn nvidia:ngc-gpu-image:gen2:26.3.1 --subscription" in said
    assert parts.changes() == []
    parts.cloud.marketplace.accepted.add(("nvidia", "ngc-gpu-image", "gen2"))
    assert find(parts, "nvidia:ngc-gpu-image:gen2:latest").plan == {
        "name": "gen2", "publisher": "nvidia", "product": "ngc-gpu-image"}  # fmt: skip
    parts.cloud.marketplace.accepted.clear()
    parts.cloud.world.denied = {
        "Microsoft.MarketplaceOrdering/offerTypes/publishers/offers/plans/agreements/read",
        "Microsoft.MarketplaceOrdering/offerTypes/agreements/read",
    }
    assert find(parts, "nvidia:ngc-gpu-image:gen2:latest").plan, "whoever may not look is told by the launch"


# ------------------------------------------------------------ images of somebody's own


def gallery(parts: Parts, *versions: str, regions: tuple[str, ...] = (REGION,), **more: Any) -> str:
    """An image of a gallery in the group `corp`. Returns the id of its definition."""
    gallery = parts.make("Microsoft.Compute/galleries/corp", {"properties": {}})
    identifier = {"publisher": "corp", "offer": "os", "sku": "s"}
    properties = {
        "osType": "Linux", "osState": "Generalized", "hyperVGeneration": "V2", "architecture": "x64", "identifier": identifier,
        **more,
    }  # fmt: skip
    definition = {"location": REGION, "properties": properties}
    parts.calls.run("PUT", f"{gallery}/images/os", "making", definition)
    for version in versions:
        id_ = f"{gallery}/images/os/versions/{version}"
        targets = [{"name": region, "regionalReplicaCount": 1} for region in regions]
        parts.cloud.store.put({
            "id": id_, "name": version, "type": "Microsoft.Compute/galleries/images/versions", "location": REGION,
            "properties": {
                "provisioningState": "Succeeded", "publishingProfile": {"targetRegions": targets},
                "storageProfile": {"osDiskImage": {"sizeInGB": 48}},
            },
        })  # fmt: skip
    return f"{gallery}/images/os"


def test_of_a_gallerys_image_the_newest_version_is_taken_or_the_one_that_is_named(parts: Parts) -> None:
    secure = [
        {"name": "SecurityType", "value": "TrustedLaunchSupported"},
        {"name": "DiskControllerTypes", "value": "SCSI, NVMe"},
    ]
    definition = gallery(parts, "1.0.9", "1.0.10", features=secure)
    found = find(parts, definition)
    assert found.id == f"{definition}/versions/1.0.10" and found.reference == {"id": found.id}
    assert (found.size, found.trusted, found.generation) == (48 * GIB, True, "V2") and "NVMe" in found.controllers
    assert find(parts, f"{definition}/versions/1.0.9").id.endswith("/1.0.9")
    assert not find(parts, gallery(parts, "1.0.0")).trusted


def test_a_version_that_is_in_other_regions_alone_is_told_with_them(parts: Parts) -> None:
    definition = gallery(parts, "1.0.0", regions=("West Europe",))
    assert "is in westeurope, and nodes are launched in eastus: replicate it" in refused(
        parts, f"{definition}/versions/1.0.0"
    )
    assert "no version of it is to be had in eastus" in refused(parts, definition)


def test_a_specialized_image_is_refused_since_it_is_the_copy_of_one_machine(parts: Parts) -> None:
    assert "is specialized, which is the copy of one machine" in refused(
        parts, gallery(parts, "1.0.0", osState="Specialized")
    )


def test_an_image_made_of_a_sold_one_needs_its_plan(parts: Parts) -> None:
    plan = {"name": "gen2", "publisher": "nvidia", "product": "ngc-gpu-image"}
    definition = gallery(parts, "1.0.0", purchasePlan=plan)
    accept = "`az vm image terms accept --publisher nvidia --offer ngc-gpu-image --plan gen2"
    assert accept in refused(parts, definition)
    parts.cloud.marketplace.accepted.add(("nvidia", "ngc-gpu-image", "gen2"))
    assert find(parts, definition).plan == plan


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ("communityGalleries", "community:corp-public/os"),
        ("communityGalleries", "/CommunityGalleries/corp-public/Images/os/Versions/1.0.0"),
        ("sharedGalleries", "/sharedGalleries/corp-public/images/os/versions/latest"),
    ],
)
def test_galleries_of_others_are_asked_by_their_public_names(parts: Parts, kind: str, form: str) -> None:
    definition = gallery(parts, "1.0.0")
    assert "there is none" in refused(parts, form)
    parts.cloud.galleries.shares.ids[kind, "corp-public"] = definition.partition("/images/")[0]
    found = find(parts, form)
    (member,) = found.reference
    assert member == f"{kind.removesuffix('Galleries')}GalleryImageId" and found.size == 48 * GIB
    assert found.reference[member].lower() == f"/{kind}/corp-public/images/os/versions/1.0.0".lower()


def test_a_managed_image_of_the_region_is_taken_and_has_no_trusted_launch(parts: Parts) -> None:
    disk = {"osType": "Linux", "osState": "Generalized", "diskSizeGB": 40}
    body = {"properties": {"hyperVGeneration": "V2", "storageProfile": {"osDisk": disk}}}
    image = parts.make("Microsoft.Compute/images/own", body)
    found = find(parts, image)
    assert (found.id, found.reference, found.size, found.trusted) == (image, {"id": image}, 40 * GIB, False)
    elsewhere = parts.make("Microsoft.Compute/images/far", {**body, "location": "westeurope"})
    assert "is in westeurope, and nodes are launched in eastus" in refused(parts, elsewhere)
    assert "is for x86_64, the instance type is arm64" in refused(parts, image, "arm64")
