"""Which machine image a node starts from: named by name, path or family, else Ubuntu's own, or the Deep Learning VM's."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from clusterctl.core.errors import BadRequest
from clusterctl_providers.cloud.lately import Lately
from clusterctl_providers.gcp.calls import Calls, relative
from clusterctl_providers.gcp.errors import is_missing

GIB = 1024**3
UBUNTU = "family:ubuntu-os-cloud/ubuntu-2404-lts-{arch}"
# Its families are named for the versions of CUDA and of the driver, and old ones go: the newest of them is taken.
DEEP_LEARNING = ("deeplearning-platform-release", 'family eq "common-cu.*-ubuntu-2404-nvidia-.*"')
FORMS = "NAME, projects/PROJECT/global/images/NAME, or family:PROJECT/FAMILY"
_PART = r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?"
_PROJECT = r"(?:[a-z0-9.-]+:)?[a-z][-a-z0-9]{4,28}[a-z0-9]"
_PATH = re.compile(rf"(?:.*/)?(projects/{_PROJECT}/global/images/{_PART})")
_FAMILY = re.compile(rf"family:(?:({_PROJECT})/)?({_PART})")
_DEBIAN_NAMES = {"x86_64": "amd64", "arm64": "arm64"}
_ARCHITECTURES = {"X86_64": "x86_64", "ARM64": "arm64"}
_NEWEST = 50  # images of a listing that are looked at


@dataclass(frozen=True)
class Image:
    """`id` is "projects/P/global/images/NAME". `size`: bytes, the least that a machine's disk can have. `features`: what
    Google calls guestOsFeatures. `driver`: whether it is the usual one for NVIDIA's GPUs."""

    id: str
    arch: str
    size: int = 0
    features: frozenset[str] = frozenset()
    driver: bool = False


class Images:
    """Asks Google once per image and process: a cluster's nodes all start from the same one."""

    def __init__(self, calls: Calls, clock: Callable[[], float] = time.monotonic) -> None:
        self._calls, self._clock = calls, clock
        self._found: dict[tuple[str, str, bool], Image] = {}
        self._lately = Lately(lambda: self._clock())
        self._lock = threading.Lock()

    def find(self, wanted: str, arch: str, nvidia: bool) -> Image:
        """`wanted`: "" for the usual one, else one of `FORMS`. Raises BadRequest when there is none, or when it is for another
        architecture than `arch`."""
        with self._lock:
            key = (wanted, arch, nvidia)
            if key not in self._found:
                self._found[key] = self._look_up(wanted, arch, nvidia)
                self._lately.look(repr(key))
            return self._found[key]

    def forget(self, image: str, wanted: str) -> bool:
        """Google does not know `image` any more, which a family led to: the next launch looks again. False where the user named
        the image itself, or where it was looked for a moment ago."""
        if wanted and not _FAMILY.fullmatch(wanted):
            return False
        with self._lock:
            old = [
                key
                for key, found in self._found.items()
                if key[0] == wanted and found.id == image and self._lately.is_worth_a_look(repr(key))
            ]
            for key in old:
                del self._found[key]
            return bool(old)

    def _look_up(self, wanted: str, arch: str, nvidia: bool) -> Image:
        if not wanted and nvidia:
            return self._deep_learning(arch)
        wanted = wanted or UBUNTU.format(arch=_DEBIAN_NAMES.get(arch, arch))
        if family := _FAMILY.fullmatch(wanted):
            where = f"projects/{family[1]}/" if family[1] else ""
            return self._read(f"{where}global/images/family/{family[2]}", f"the newest image of {wanted}", arch)
        if path := _PATH.fullmatch(wanted):
            return self._read(path[1], f"the image {wanted}", arch)
        if re.fullmatch(_PART, wanted):
            return self._read(f"global/images/{wanted}", f"the image {wanted} of {self._calls.project}", arch)
        raise BadRequest(f"image {wanted!r} is no image of Google Cloud's: write {FORMS}")

    def _read(self, path: str, title: str, arch: str) -> Image:
        what = f"looking up {title}"
        try:
            return _checked(self._calls.get(path, what), arch)
        except BadRequest as error:
            if is_missing(error):
                raise BadRequest(
                    f"{what}: there is none, or it is not shared with this account ({error.__cause__})"
                ) from error
            raise

    def _deep_learning(self, arch: str) -> Image:
        project, family = DEEP_LEARNING
        what = f"looking for the newest image with NVIDIA's driver in {project}"
        if arch == "x86_64":
            path = f"projects/{project}/global/images"
            order = {"orderBy": "creationTimestamp desc", "maxResults": _NEWEST}
            for page in self._calls.pages(path, what, filter=family, **order):
                fit = [row for row in page.get("items") or () if _is_usable(row)]
                if fit:
                    return _checked(max(fit, key=_age), arch, driver=True)
        raise BadRequest(f"{what}: there is none for {arch}; name an `image` of the pool ({FORMS})")


def projects_in(images: Iterable[str]) -> list[str]:
    """Other projects than the cluster's that images of specs are named in."""
    found = (_PATH.fullmatch(image) or _FAMILY.fullmatch(image) for image in images)
    return sorted({m[1].split("/")[1] if m[1].startswith("projects/") else m[1] for m in found if m and m[1]})


def _age(row: Mapping[str, Any]) -> tuple[str, str]:
    return str(row.get("creationTimestamp") or ""), str(row["name"])


def _is_usable(row: Mapping[str, Any]) -> bool:
    return row.get("status", "READY") == "READY" and not (row.get("deprecated") or {}).get("state")


def _checked(row: Mapping[str, Any], arch: str, *, driver: bool = False) -> Image:
    image = relative(str(row["selfLink"]))
    own = _ARCHITECTURES.get(str(row.get("architecture") or ""), arch)
    if own != arch:
        raise BadRequest(f"the image {image} is for {own}, the instance type is {arch}")
    if row.get("status", "READY") != "READY":
        raise BadRequest(
            f"the image {image} is {str(row['status']).lower()}: nothing can be launched from it, name another"
        )
    state = str((row.get("deprecated") or {}).get("state") or "")
    if state in ("OBSOLETE", "DELETED"):
        raise BadRequest(f"the image {image} is {state.lower()}: nothing can be launched from it, name another")
    features = frozenset(str(feature["type"]) for feature in row.get("guestOsFeatures") or ())
    return Image(image, own, int(row.get("diskSizeGb") or 0) * GIB, features, driver)
