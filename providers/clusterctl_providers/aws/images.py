"""Which machine image a node starts from: named by id, by SSM parameter or by owner and name, else Ubuntu's own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from clusterctl.core.errors import BadRequest, ProviderError
from clusterctl_providers.aws.calls import Calls
from clusterctl_providers.aws.errors import code_behind
from clusterctl_providers.cloud.lately import Lately

GIB = 1024**3
UBUNTU = "/aws/service/canonical/ubuntu/server/24.04/stable/current/{arch}/hvm/ebs-gp3/ami-id"
DEEP_LEARNING = "/aws/service/deeplearning/ami/{arch}/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
_GONE = ("InvalidAMIID.NotFound", "InvalidAMIID.Unavailable")
_DEBIAN_NAMES = {"x86_64": "amd64", "arm64": "arm64"}


@dataclass(frozen=True)
class Image:
    id: str
    root_device: str
    arch: str
    size: int = 0  # bytes of its root disk, the least that a machine of it can have
    data_disks: tuple[tuple[str, int], ...] = ()  # (device, GiB) of further disks that come with it


class Images:
    """Asks AWS once per image and process: a cluster's nodes all start from the same one."""

    def __init__(self, calls: Calls, clock: Callable[[], float] = time.monotonic) -> None:
        self._calls, self._clock = calls, clock
        self._found: dict[tuple[str, str, bool], Image] = {}
        self._lately = Lately(lambda: self._clock())
        self._lock = threading.Lock()

    def find(self, wanted: str, arch: str, nvidia: bool) -> Image:
        """`wanted`: "" | "ami-..." | "ssm:/path" | "OWNER/name pattern" (the newest that matches). Raises BadRequest
        when there is none, or when it is for another architecture than `arch`."""
        with self._lock:
            key = (wanted, arch, nvidia)
            if key not in self._found:
                self._found[key] = self._look_up(wanted, arch, nvidia)
                self._lately.look(repr(key))
            return self._found[key]

    def forget(self, code: str, wanted: str) -> bool:
        """AWS does not know an image any more that a parameter or a name led to: the next launch looks again. False where
        the user named the image itself, or where it was looked for a moment ago."""
        if code not in _GONE or wanted.startswith("ami-"):
            return False
        with self._lock:
            old = [key for key in self._found if key[0] == wanted and self._lately.is_worth_a_look(repr(key))]
            for key in old:
                del self._found[key]
            return bool(old)

    def _look_up(self, wanted: str, arch: str, nvidia: bool) -> Image:
        if wanted.startswith("ami-"):
            return self._describe(wanted, arch)
        if wanted.startswith(("ssm:", "resolve:ssm:", "/")):
            return self._describe(self._parameter(wanted.rpartition("ssm:")[2], arch), arch)
        if "/" in wanted:
            owner, _, name = wanted.partition("/")
            return self._newest(owner, name, arch)
        if wanted:
            raise BadRequest(
                f"image {wanted!r} is no AWS image: write ami-..., ssm:/path of a parameter, or OWNER/NAME"
            )
        default = DEEP_LEARNING.format(arch=arch) if nvidia else UBUNTU.format(arch=_DEBIAN_NAMES.get(arch, arch))
        return self._describe(self._parameter(default, arch), arch)

    def _parameter(self, name: str, arch: str) -> str:
        what = f"reading the image id from the SSM parameter {name} in {self._calls.region}"
        try:
            return str(self._calls.read("ssm", "get_parameter", what, Name=name)["Parameter"]["Value"])
        except BadRequest as error:
            raise BadRequest(
                f"{what}: there is none for {arch}; name an image of the pool by its id ({error})"
            ) from error

    def _describe(self, ami: str, arch: str) -> Image:
        what = f"looking up the image {ami} in {self._calls.region}"
        none = f"{what}: there is none; an image belongs to one region, and to accounts that it is shared with"
        try:
            found = self._calls.read("ec2", "describe_images", what, ImageIds=[ami])["Images"]
        except BadRequest as error:
            if code_behind(error) in _GONE:
                raise BadRequest(none) from error
            raise
        if not found:
            raise BadRequest(none)
        return _checked(found[0], arch)

    def _newest(self, owner: str, name: str, arch: str) -> Image:
        what = f"looking for an image {name!r} of owner {owner} in {self._calls.region}"
        filters = [
            {"Name": "name", "Values": [name]},
            {"Name": "architecture", "Values": [arch]},
            {"Name": "state", "Values": ["available"]},
        ]
        pages = self._calls.pages("ec2", "describe_images", what, Owners=[owner], Filters=filters)
        found = [image for page in pages for image in page["Images"]]
        if not found:
            self._refuse_deprecated(owner, filters, what)
            raise BadRequest(f"{what}: there is none for {arch}")
        return _checked(_latest(found), arch)

    def _refuse_deprecated(self, owner: str, filters: list[dict[str, Any]], what: str) -> None:
        pages = self._calls.pages(
            "ec2", "describe_images", what, Owners=[owner], Filters=filters, IncludeDeprecated=True
        )
        found = [image for page in pages for image in page["Images"]]
        if found:
            newest = _latest(found)
            since = str(newest.get("DeprecationTime") or "")[:10]
            raise BadRequest(
                f"{what}: only deprecated ones are there, the newest is {newest['ImageId']} (since {since}): name that one by "
                "its id, or another image"
            )


def own_parameters(images: Iterable[str]) -> list[str]:
    """The SSM parameters of the account's own among images as specs name them; AWS's are for everybody to read."""
    named = {image.rpartition("ssm:")[2] for image in images if "ssm:" in image or image.startswith("/")}
    return sorted(name for name in named if not name.startswith("/aws/"))


def _latest(images: list[Any]) -> Any:
    return max(images, key=lambda image: (image.get("CreationDate", ""), image["ImageId"]))


def _checked(image: Mapping[str, Any], arch: str) -> Image:
    if image.get("Architecture", arch) != arch:
        raise BadRequest(f"the image {image['ImageId']} is for {image['Architecture']}, the instance type is {arch}")
    if image.get("State", "available") != "available":
        raise BadRequest(
            f"the image {image['ImageId']} is {image['State']}: nothing can be launched from it, name another"
        )
    if not image.get("RootDeviceName"):
        raise ProviderError(f"the image {image['ImageId']} has no root device")
    disks = {m["DeviceName"]: m["Ebs"] for m in image.get("BlockDeviceMappings") or () if m.get("Ebs")}
    root = str(image["RootDeviceName"])
    size = int(disks.get(root, {}).get("VolumeSize") or 0) * GIB
    others = tuple(sorted((str(name), int(ebs["VolumeSize"])) for name, ebs in disks.items() if name != root))
    return Image(image["ImageId"], root, image.get("Architecture", arch), size, others)
