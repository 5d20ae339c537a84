"""Where a cluster is: it stays there as long as it lives, whatever a spec says by now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from clusterctl.client.registry import Cluster, Registry
from clusterctl.core.errors import Refused
from clusterctl.spec.places import identity
from clusterctl.spec.providers.registry import KINDS

if TYPE_CHECKING:
    from clusterctl.client.specfile import SpecFile

Identity = tuple[str, ...]


def where(cluster: Cluster) -> Identity | None:
    """What tells its place from others; None where nothing of it was ever begun."""
    spec = cluster.read_config().get("spec")
    return identity(*_provider(spec)) if spec else None


def where_of(source: SpecFile) -> Identity:
    """The same of the place that a spec names."""
    return identity(source.spec.provider_name, source.spec.provider_settings)


def refuse_to_move(registry: Registry, source: SpecFile) -> None:
    """Raises Refused where the cluster of this spec is in another place, of clouds, which would be left behind as it is."""
    if source.name not in registry.names():
        return
    cluster = registry.load(source.name)
    here, wanted = where(cluster), where_of(source)
    if here is None or here == wanted or not any(_is_cloud(one[0]) for one in (here, wanted)):
        return
    raise Refused(
        f"cluster {cluster.name!r} is in {cluster.place}, and the spec wants it in {source.place}: a cluster stays where it "
        f"is. End it with `clusterctl down {cluster.name}`, then `up` makes it there"
    )


def _provider(spec: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    given = spec.get("provider") or {}
    if isinstance(given, str):
        return given, {}
    return next(((name, settings) for name, settings in given.items() if settings is not None), ("", {}))


def _is_cloud(provider: str) -> bool:
    kind = KINDS.get(provider)
    return kind is not None and (kind.cloud is not None or kind.imagined)
