"""Volumes that survive their clusters, told by `gc`, which removes none: they are data, and whose they are knows a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

from clusterctl.client.down.places import Place
from clusterctl.client.registry import Registry
from clusterctl.core.errors import ClusterctlError


def kept_volumes(registry: Registry, places: Sequence[Place], scratch: str) -> Iterator[str]:
    """A sentence for each, here and where those places are; places that do not answer were told of already."""
    for path in sorted((registry.home / "volumes").glob("*/*")):
        yield _sentence(path.name, path.parent.name, str(path), f"rm -r {path}")
    from clusterctl_providers.base import HasKeptVolumes

    for place in places:
        try:
            with closing(place.open("", "", scratch)) as provider:
                found = provider.kept_volumes() if isinstance(provider, HasKeptVolumes) else []
        except ClusterctlError:
            continue
        for volume in found:
            yield _sentence(volume.volume, volume.cluster, volume.place, volume.removal)


def _sentence(volume: str, cluster: str, place: str, removal: str) -> str:
    return f"volume {volume!r} of cluster {cluster!r} is kept as {place}; nothing removes it but you: `{removal}`"
