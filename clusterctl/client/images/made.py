"""`image list` and `image rm`: what builds have made, whoever ran them, and an end to what costs without being used."""

from __future__ import annotations

import contextlib
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from clusterctl.client.images.build import NAME
from clusterctl.client.registry import Registry
from clusterctl.core.errors import ClusterctlError, NotFound, Refused, UsageError

if TYPE_CHECKING:
    from clusterctl_providers.base import HasImages, StoredImage

    from clusterctl.spec.model import ClusterSpec


def list_images(registry: Registry, spec: ClusterSpec) -> dict[str, Any]:
    """{"provider", "region", "images": [{"image", "name", "state", "arch", "created", "size", "snapshots", "used_by"}]}:
    unix seconds, bytes; "used_by" are the clusters known here whose spec names the image."""
    with _opened(spec) as provider:
        found = provider.images()
    return _where(spec) | {"images": [_told(image, _users(registry, image)) for image in found]}


def remove_images(
    registry: Registry, spec: ClusterSpec, wanted: Sequence[str], tell: Callable[[str], None]
) -> dict[str, Any]:
    """{"provider", "region", "removed": [...]}, entries as in `list_images`. `wanted`: ids or names; all are looked up before
    the first is removed. Raises NotFound for one that is not there, Refused for one that a cluster known here starts from."""
    with _opened(spec) as provider:
        there = provider.images()
        chosen = [_find(there, name) for name in dict.fromkeys(wanted)]
        for image in chosen:
            _refuse_used(image, _users(registry, image))
        for image in chosen:
            provider.remove_image(image)
            tell(f"removed {image.id or image.name} and {len(image.snapshots)} snapshots")
    return _where(spec) | {"removed": [_told(image, []) for image in chosen]}


def _find(images: Sequence[StoredImage], wanted: str) -> StoredImage:
    found = next((image for image in images if wanted in (image.id, image.name)), None)
    if found is None:
        raise NotFound(f"no image {wanted!r} was made by clusterctl there: see `clusterctl image list`")
    return found


def _refuse_used(image: StoredImage, users: Sequence[str]) -> None:
    if image.state == "pending":
        raise ClusterctlError(f"{image.id} is still being made: remove it when it is done, or wait for `image build`")
    if users:
        raise Refused(
            f"{image.id} is named in the spec of {', '.join(users)}, whose next nodes would not start: name another image "
            "there and run `clusterctl up`, then remove it"
        )


def _users(registry: Registry, image: StoredImage) -> list[str]:
    return [cluster.name for cluster in registry.all() if image.id and image.id in _text(cluster.spec_file)]


def _text(path: Any) -> str:
    with contextlib.suppress(OSError):
        return str(path.read_text(encoding="utf-8"))
    return ""


def _told(image: StoredImage, users: Sequence[str]) -> dict[str, Any]:
    return {
        "image": image.id,
        "name": image.name,
        "state": image.state,
        "arch": image.arch,
        "created": image.created,
        "size": image.size,
        "snapshots": list(image.snapshots),
        "used_by": list(users),
    }


def _where(spec: ClusterSpec) -> dict[str, Any]:
    return {"provider": spec.provider_name, "region": str(spec.provider_settings.get("region") or "")}


@contextlib.contextmanager
def _opened(spec: ClusterSpec) -> Iterator[HasImages]:
    from clusterctl_providers import make_provider
    from clusterctl_providers.base import HasImages, ProviderContext

    settings = {k: v for k, v in spec.provider_settings.items() if k != "ssh_from"}  # nobody logs in anywhere
    with tempfile.TemporaryDirectory() as scratch:
        provider = make_provider(spec.provider_name, ProviderContext(NAME, str(uuid.uuid4()), scratch, settings))
        with contextlib.closing(provider):
            if not isinstance(provider, HasImages):
                raise UsageError(f"provider {spec.provider_name!r} makes no images")
            yield provider
