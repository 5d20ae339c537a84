"""Which machine image a node starts from: one of the marketplace by its URN, one of a gallery or a managed image by its id, else
Ubuntu's own, or Microsoft's with NVIDIA's driver."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clusterctl.core.errors import BadRequest, ProviderError
from clusterctl_providers.azure.calls import Calls, last_part
from clusterctl_providers.azure.errors import code_behind, is_missing
from clusterctl_providers.azure.images.terms import check_terms
from clusterctl_providers.cloud.lately import Lately

GIB = 1024**3
UBUNTU = {
    "x86_64": "Canonical:ubuntu-24_04-lts:server:latest",
    "arm64": "Canonical:ubuntu-24_04-lts:server-arm64:latest",
}
WITH_DRIVER = "microsoft-dsvm:ubuntu-hpc:2204:latest"  # x86-64 only
DRIVER_SIZE = 64 * GIB  # of whose disk the marketplace does not tell
FORMS = (
    "PUBLISHER:OFFER:SKU:VERSION (`latest` is a version), the id of an image, of a gallery's image or of one version of it, or "
    "community:GALLERY/IMAGE[/VERSION]"
)
_ARCHITECTURES = {"x64": "x86_64", "arm64": "arm64"}
_TRUSTED = ("trustedlaunch", "trustedlaunchsupported", "trustedlaunchandconfidentialvmsupported")
_URN = re.compile(r"([\w.-]+):([\w.-]+):([\w.-]+):([\w.-]+)")
_MANAGED = re.compile(r"(?i)/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.Compute/images/[^/]+")
_GALLERY = re.compile(
    r"(?i)(/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.Compute/galleries/[^/]+/images/[^/]+)"
    r"(?:/versions/([^/]+))?"
)
_SHARED = re.compile(r"(?i)/sharedGalleries/([^/]+)/images/([^/]+)(?:/versions/([^/]+))?")
_COMMUNITY = re.compile(
    r"(?i)(?:community:|/communityGalleries/)([^/]+)/(?:images/)?([^/]+?)(?:/(?:versions/)?([^/]+))?"
)
LATEST = "latest"
_GONE = frozenset({
    "PlatformImageNotFound", "ImageNotFound", "GalleryImageNotFound", "GalleryImageVersionNotFound", "ImageVersionDeprecated",
    "ResourceNotFound", "NotFound",
})  # fmt: skip


@dataclass(frozen=True)
class Image:
    """`id`: which it is, with its version. `reference`: what a VM's body says of it. `size`: bytes, the least that a machine's
    disk can have, 0 where that is not told. `generation`: V1 or V2 of Hyper-V's. `trusted`: whether it takes trusted launch.
    `controllers`: of disks that it has drivers for. `plan`: what a VM's body says of who sells it, None for nobody. `driver`:
    whether it is the usual one for NVIDIA's GPUs."""

    id: str
    arch: str
    reference: Mapping[str, str]
    size: int = 0
    generation: str = "V2"
    trusted: bool = False
    controllers: frozenset[str] = frozenset({"SCSI"})
    plan: Mapping[str, str] | None = None
    driver: bool = False


@dataclass(frozen=True)
class _Facts:
    """What Azure says of an image, in the same words whatever sort it is of."""

    properties: Mapping[str, Any]
    plan: Mapping[str, Any] = field(default_factory=dict[str, Any])
    size: int = 0


class Images:
    """Asks Azure once per image and process: a cluster's nodes all start from the same one."""

    def __init__(self, calls: Calls, clock: Callable[[], float] = time.monotonic) -> None:
        self._calls, self._clock = calls, clock
        self._found: dict[tuple[str, str, bool], Image] = {}
        self._lately = Lately(lambda: self._clock())
        self._lock = threading.Lock()

    def find(self, wanted: str, arch: str, nvidia: bool) -> Image:
        """`wanted`: "" for the usual one, else one of `FORMS`. Raises BadRequest when there is none, when it is for another
        architecture than `arch`, or when its terms are not accepted."""
        with self._lock:
            key = (wanted, arch, nvidia)
            if key not in self._found:
                self._found[key] = self._look_up(wanted, arch, nvidia)
                self._lately.look(repr(key))
            return self._found[key]

    def forget(self, error: ProviderError, wanted: str) -> bool:
        """Azure does not know the image any more, which was the latest: the next launch looks again. False where that is not what
        `error` says, where the user named a version, or where it was looked for a moment ago."""
        if code_behind(error) not in _GONE or (wanted and not _moves(wanted)):
            return False
        with self._lock:
            old = [key for key in self._found if key[0] == wanted and self._lately.is_worth_a_look(repr(key))]
            for key in old:
                del self._found[key]
            return bool(old)

    def _look_up(self, wanted: str, arch: str, nvidia: bool) -> Image:
        usual = not wanted
        if usual and nvidia and arch != "x86_64":
            raise BadRequest(
                f"Azure has no image with NVIDIA's driver for {arch}: name an `image` of the pool ({FORMS})"
            )
        if usual:
            wanted = WITH_DRIVER if nvidia else UBUNTU[arch]
        if urn := _URN.fullmatch(wanted):
            return self._of_marketplace(urn.groups(), arch, driver=usual and nvidia)
        if _MANAGED.fullmatch(wanted):
            return self._managed(wanted, arch)
        if named := _GALLERY.fullmatch(wanted):
            return self._of_gallery(named[1], named[2] or LATEST, arch)
        if named := _SHARED.fullmatch(wanted):
            return self._of_others("sharedGalleries", named.groups(), arch)
        if named := _COMMUNITY.fullmatch(wanted):
            return self._of_others("communityGalleries", named.groups(), arch)
        raise BadRequest(f"image {wanted!r} is no image of Azure's: write {FORMS}")

    # ------------------------------------------------------------ the marketplace

    def _of_marketplace(self, urn: Sequence[str], arch: str, *, driver: bool) -> Image:
        publisher, offer, sku, version = urn
        path = self._calls.path(
            "Microsoft.Compute", "locations", self._calls.region, "publishers", publisher, "artifacttypes/vmimage/offers",
            offer, "skus", sku, "versions",
        )  # fmt: skip
        title = f"the image {':'.join(urn)} in {self._calls.region}"
        if version == LATEST:
            version = self._newest(path, title)
        properties = self._read(f"{path}/{version}", title).get("properties") or {}
        whole = f"{publisher}:{offer}:{sku}:{version}"
        plan = properties.get("plan") or {}
        if plan:
            check_terms(self._calls, whole, plan)
        reference = {"publisher": publisher, "offer": offer, "sku": sku, "version": version}
        size = DRIVER_SIZE if driver else 0
        return _checked(whole, reference, _Facts(properties, plan, size), arch, driver=driver)

    def _newest(self, path: str, title: str) -> str:
        what = f"looking up {title}"
        try:
            rows = self._calls.list(path, what)
        except ProviderError as error:
            raise _none(error, what) from error
        names = [str(row["name"]) for row in rows]
        if not names:
            raise BadRequest(f"{what}: it has no version there; name another `image`, or another region")
        return max(names, key=_numbers)

    # ------------------------------------------------------------ images of somebody's own

    def _managed(self, wanted: str, arch: str) -> Image:
        row = self._read(wanted, f"the image {last_part(wanted)}")
        properties = row.get("properties") or {}
        disk = (properties.get("storageProfile") or {}).get("osDisk") or {}
        if str(disk.get("osState") or "Generalized") != "Generalized":
            raise BadRequest(f"the image {last_part(wanted)} is not generalized: nodes cannot be started from it")
        self._check_region(row, "the image", wanted)
        facts = _Facts(properties, size=int(disk.get("diskSizeGB") or 0) * GIB)
        return _checked(wanted, {"id": wanted}, facts, arch)

    def _of_gallery(self, definition: str, version: str, arch: str) -> Image:
        title = f"the image {last_part(definition)} of the gallery {definition.split('/')[-3]}"
        properties = self._read(definition, title).get("properties") or {}
        if version == LATEST:
            rows = self._list(f"{definition}/versions", title)
            row = self._newest_of(rows, title)
        else:
            row = self._read(f"{definition}/versions/{version}", f"version {version} of {title}")
            if not self._is_here(row):
                regions = ", ".join(_regions(row)) or "nowhere"
                raise BadRequest(
                    f"version {version} of {title} is in {regions}, and nodes are launched in {self._calls.region}: replicate it "
                    "there (`az sig image-version update --add publishingProfile.targetRegions name=...`), or name another"
                )
        plan, disk = (
            _plan(properties),
            ((row.get("properties") or {}).get("storageProfile") or {}).get("osDiskImage") or {},
        )
        whole = str(row["id"])
        if plan:
            check_terms(self._calls, "", plan)
        facts = _Facts(properties, plan, int(disk.get("sizeInGB") or 0) * GIB)
        return _checked(whole, {"id": whole}, facts, arch)

    def _newest_of(self, rows: Sequence[Mapping[str, Any]], title: str) -> Mapping[str, Any]:
        fit = [row for row in rows if self._is_here(row) and not _is_left_out(row, self._calls.region)]
        if not fit:
            raise BadRequest(f"looking up {title}: no version of it is to be had in {self._calls.region}")
        return max(fit, key=lambda row: _numbers(str(row["name"])))

    def _is_here(self, row: Mapping[str, Any]) -> bool:
        """Made, and replicated to the cluster's region."""
        made = str((row.get("properties") or {}).get("provisioningState") or "Succeeded")
        return made == "Succeeded" and self._calls.region in _regions(row)

    def _of_others(self, kind: str, named: Sequence[str | None], arch: str) -> Image:
        """Of a gallery that somebody shares with this subscription or tenant, or with everybody."""
        gallery, image, version = named
        title = f"the image {image} of the {'shared' if kind[0] == 's' else 'community'} gallery {gallery}"
        path = self._calls.path(
            "Microsoft.Compute", "locations", self._calls.region, kind, str(gallery), "images", str(image)
        )
        properties = self._read(path, title).get("properties") or {}
        if version in (None, LATEST):
            rows = self._list(f"{path}/versions", title)
            fit = [row for row in rows if not (row.get("properties") or {}).get("excludeFromLatest")]
            if not fit:
                raise BadRequest(f"looking up {title}: it has no version in {self._calls.region}")
            row: Mapping[str, Any] = max(fit, key=lambda row: _numbers(str(row["name"])))
        else:
            row = self._read(f"{path}/versions/{version}", f"version {version} of {title}")
        disk = ((row.get("properties") or {}).get("storageProfile") or {}).get("osDiskImage") or {}
        word = "SharedGalleries" if kind[0] == "s" else "CommunityGalleries"
        whole = f"/{word}/{gallery}/Images/{image}/Versions/{row['name']}"
        member = "sharedGalleryImageId" if kind[0] == "s" else "communityGalleryImageId"
        plan = _plan(properties)
        if plan:
            check_terms(self._calls, "", plan)
        return _checked(whole, {member: whole}, _Facts(properties, plan, int(disk.get("diskSizeGB") or 0) * GIB), arch)

    # ------------------------------------------------------------ asked

    def _read(self, path: str, title: str) -> dict[str, Any]:
        what = f"looking up {title}"
        try:
            return self._calls.get(path, what)
        except ProviderError as error:
            raise _none(error, what) from error

    def _list(self, path: str, title: str) -> list[dict[str, Any]]:
        what = f"looking up the versions of {title}"
        try:
            return self._calls.list(path, what)
        except ProviderError as error:
            raise _none(error, what) from error

    def _check_region(self, row: Mapping[str, Any], thing: str, name: str) -> None:
        if _place(row.get("location")) != self._calls.region:
            raise BadRequest(
                f"{thing} {last_part(name)} is in {row.get('location')}, and nodes are launched in {self._calls.region}: copy it "
                "there, or put it into a gallery"
            )


def _none(error: ProviderError, what: str) -> ProviderError:
    if is_missing(error):
        return BadRequest(f"{what}: there is none, or it is not shared with this account ({error.__cause__})")
    return error


def _checked(whole: str, reference: Mapping[str, str], facts: _Facts, arch: str, *, driver: bool = False) -> Image:
    properties = facts.properties
    own = _ARCHITECTURES.get(str(properties.get("architecture") or "").lower(), "x86_64")
    if own != arch:
        raise BadRequest(f"the image {whole} is for {own}, the instance type is {arch}")
    if (
        str(properties.get("osType") or (properties.get("osDiskImage") or {}).get("operatingSystem") or "Linux")
        != "Linux"
    ):
        raise BadRequest(f"the image {whole} is for Windows: nodes are machines with Linux")
    if str(properties.get("osState") or "Generalized") != "Generalized":
        raise BadRequest(
            f"the image {whole} is specialized, which is the copy of one machine, with its users and its name: nodes need one "
            "that is generalized"
        )
    state = str((properties.get("imageDeprecationStatus") or {}).get("imageState") or "Active")
    if state == "Deprecated":
        raise BadRequest(f"the image {whole} is deprecated: nothing can be launched from it, name another")
    features = {
        str(each.get("name")).lower(): str(each.get("value") or "") for each in properties.get("features") or ()
    }
    generation = str(properties.get("hyperVGeneration") or "V1")
    trusted = generation == "V2" and features.get("securitytype", "").lower() in _TRUSTED
    controllers = frozenset(re.findall(r"SCSI|NVMe", features.get("diskcontrollertypes", ""))) or frozenset({"SCSI"})
    plan = facts.plan
    sold = {key: str(plan[key]) for key in ("name", "publisher", "product")} if plan else None
    return Image(whole, own, reference, facts.size, generation, trusted, controllers, sold, driver)


def _plan(properties: Mapping[str, Any]) -> dict[str, Any]:
    plan = properties.get("purchasePlan") or {}
    return dict(plan) if plan.get("name") else {}


def _regions(row: Mapping[str, Any]) -> list[str]:
    profile = (row.get("properties") or {}).get("publishingProfile") or {}
    return [_place(each.get("name")) for each in profile.get("targetRegions") or ()] or [_place(row.get("location"))]


def _is_left_out(row: Mapping[str, Any], region: str) -> bool:
    profile = (row.get("properties") or {}).get("publishingProfile") or {}
    here = [each for each in profile.get("targetRegions") or () if _place(each.get("name")) == region]
    return bool(profile.get("excludeFromLatest")) or any(each.get("excludeFromLatest") for each in here)


def _place(location: Any) -> str:
    """A region's name: Azure also writes "East US" for eastus."""
    return str(location or "").replace(" ", "").lower()


def _numbers(version: str) -> tuple[tuple[int, ...], str]:
    """Versions are numbers, and 1.0.10 is newer than 1.0.9."""
    return tuple(int(part) for part in re.findall(r"\d+", version)), version


def _moves(wanted: str) -> bool:
    """Whether what it names may be another image tomorrow."""
    urn, gallery = _URN.fullmatch(wanted), _GALLERY.fullmatch(wanted)
    if urn or gallery:
        return (urn[4] if urn else ((gallery and gallery[2]) or LATEST)) == LATEST
    other = _SHARED.fullmatch(wanted) or _COMMUNITY.fullmatch(wanted)
    return other is not None and other[3] in (None, LATEST)
