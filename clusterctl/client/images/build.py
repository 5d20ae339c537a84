"""`image build`: a machine image with what nodes would otherwise install. What is under way is noted down below
`$CLUSTERCTL_HOME/images`, so that the next try goes on with it, and `gc` ends what nobody goes on with."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clusterctl_runtime.files.lock import LockHeld, is_held, take
from clusterctl_runtime.files.private import make_private_dir, write_private

from clusterctl.client.registry import Registry, read_json
from clusterctl.core.errors import ClusterctlError, UsageError
from clusterctl.spec.installers import installers

if TYPE_CHECKING:
    from clusterctl_providers.base import ImageRecipe

    from clusterctl.spec.model import ClusterSpec

NAME = "image-build"  # stands for the cluster's name in tags


def build_image(registry: Registry, spec: ClusterSpec, pool: str, tell: Callable[[str], None]) -> dict[str, Any]:
    """{"image", "name", "provider", "region", "fresh", "seconds"}. `pool`: whose image is the base, "" for the first."""
    from clusterctl_providers import make_provider
    from clusterctl_providers.base import BuildEnded, HasImages, PoolRequest, ProviderContext

    from clusterctl.spec.to_core import pool_requests

    began = time.monotonic()
    wanted = pool or spec.pools[0].name
    requests = pool_requests(spec)
    if wanted not in requests:
        raise UsageError(f"no pool is named {wanted!r}: there are {', '.join(sorted(requests))}")
    settings = {k: v for k, v in spec.provider_settings.items() if k != "ssh_from"}  # nobody logs in to the machine
    recipe, request = recipe_of(spec, wanted), PoolRequest(wanted, requests[wanted])
    with _noted(registry, spec.provider_name, settings, [request.spec, recipe]) as note:
        context = ProviderContext(NAME, note.uid, str(note.path.parent), settings)
        provider = make_provider(spec.provider_name, context)
        try:
            if not isinstance(provider, HasImages):
                note.done()
                raise UsageError(f"provider {spec.provider_name!r} makes no images: build one with its own tools")
            made = provider.build_image(request, recipe, tell)
            note.done()
        except BuildEnded:
            note.done()
            raise
        finally:
            provider.close()
    return {
        "image": made.id,
        "name": made.name,
        "provider": spec.provider_name,
        "region": str(settings.get("region") or ""),
        "fresh": made.fresh,
        "seconds": round(time.monotonic() - began, 1),
    }


def recipe_of(spec: ClusterSpec, pool: str) -> ImageRecipe:
    """What an image for this pool gets. Raises UsageError where that is nothing."""
    from clusterctl_providers.base import ImageRecipe
    from clusterctl_runtime.engine.environment import TESTED_VERSION

    if spec.ray is None:
        raise UsageError("a cluster with `engine: none` needs nothing that an image would have")
    if spec.ray.python:
        raise UsageError("`engine.ray.python` names a Python that the image has already: there is nothing to build")
    version, extras = spec.ray.version or TESTED_VERSION, tuple(spec.ray.extras)
    return ImageRecipe(version, extras, installers(spec, pool), tuple(spec.ray.packages))


class _Note:
    def __init__(self, path: Path, uid: str) -> None:
        self.path, self.uid = path, uid

    def done(self) -> None:
        """Nothing is left to go on with: the next build of the same gets another uid."""
        self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def _noted(registry: Registry, provider: str, settings: Mapping[str, Any], what: list[Any]) -> Iterator[_Note]:
    """The uid of this build, on disk before anything is made. One build of the same thing at a time."""
    directory = make_private_dir(make_private_dir(registry.home) / "images")
    key = hashlib.sha256(json.dumps([provider, settings, what], default=str, sort_keys=True).encode()).hexdigest()[:16]
    path = directory / f"{key}.json"
    try:
        lock = take(path.with_suffix(".lock"))
    except LockHeld:
        raise ClusterctlError(
            "this very image is being built by another `clusterctl image build`: wait for it"
        ) from None
    with lock:
        uid = str(read_json(path).get("uid") or uuid.uuid4())
        write_private(path, json.dumps({"uid": uid, "provider": {provider: dict(settings)}, "pid": os.getpid()}))
        yield _Note(path, uid)


def builds(registry: Registry) -> list[tuple[str, dict[str, Any], bool]]:
    """(uid, the provider as in a spec, whether somebody is at it) of every build that was begun and is not done."""
    found: list[tuple[str, dict[str, Any], bool]] = []
    for path in sorted((registry.home / "images").glob("*.json")):
        note = read_json(path)
        if note.get("uid"):
            found.append((str(note["uid"]), dict(note.get("provider") or {}), is_held(path.with_suffix(".lock"))))
    return found
