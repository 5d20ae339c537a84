"""Where instances of ours can be: every account, engine and machine that something here names, or has credentials for.

`gc` and `list --adopt` search these. Two clusters of one provider are in two places when their settings lead elsewhere:
another region, another profile, another engine.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clusterctl.client.down.take_down import make_providers
from clusterctl.client.images.build import builds
from clusterctl.client.registry import Cluster, Registry, read_json

if TYPE_CHECKING:
    from clusterctl.client.specfile import SpecFile

# The settings that say where a provider's instances are; all others are the same place.
_WHERE: dict[str, tuple[str, ...]] = {
    "local": (),
    "docker": ("host",),
    "aws": ("region", "profile", "endpoint_url"),
    "gcp": ("project", "region", "api_endpoint"),
    "azure": ("subscription", "region", "base_url"),
    "fake": ("directory",),
}
_SIGNS_OF_AWS = ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE")


@dataclass(frozen=True)
class Place:
    """`spec` names its provider alone, with its settings. `named`: something here speaks of it, so that not reaching it is
    an error; else it only might hold something."""

    provider: str
    spec: Mapping[str, Any]
    named: bool = True

    @property
    def where(self) -> tuple[tuple[str, str], ...]:
        """The settings that say where its instances are, as (key, value)."""
        settings = _settings(self.spec, self.provider)
        return tuple((key, str(settings[key])) for key in _WHERE[self.provider] if settings.get(key))

    @property
    def told(self) -> str:
        """Where, as people tell it from others of the provider: "region us-west-2"."""
        return ", ".join(f"{key} {value}" for key, value in self.where)

    @property
    def label(self) -> str:
        """Provider and where there, in words."""
        return f"{self.provider} ({self.told})" if self.told else self.provider

    def open(self, cluster: str, uid: str, scratch: str) -> Any:
        """The provider there, to be closed by the caller. `scratch`: a directory for what it notes."""
        return next(iter(make_providers(cluster, uid, scratch, self.spec).values()))


def places(registry: Registry, source: SpecFile | None = None) -> list[Place]:
    """This machine, what `source` names, what the clusters and image builds known here use, and Docker and AWS where this
    user has them. Hosts reached by SSH say themselves whose they are."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], Place] = {}
    for place in _named(registry, source):
        found.setdefault((place.provider, place.where), place)
    providers = {place.provider for place in found.values()}
    if "docker" not in providers:
        found["docker", ()] = Place("docker", {"provider": "docker"}, named=False)
    if "aws" not in providers and has_aws():
        found["aws", ()] = Place("aws", {"provider": "aws"}, named=False)
    local = Place(
        "local", {"provider": "local"}
    )  # last: processes of this machine may be the nodes of another provider
    return [*(place for place in found.values() if place.provider != "local"), local]


def is_place_of(place: Place, source: SpecFile) -> bool:
    """Whether a cluster of this spec has its instances there: not one of the same name in another region."""
    own = next(_places_of(source.spec.model_dump(mode="json", by_alias=True)), None)
    return own is not None and (own.provider, own.where) == (place.provider, place.where)


def has_aws() -> bool:
    """Whether something here says that this user has an account there."""
    return any(os.environ.get(name) for name in _SIGNS_OF_AWS) or (Path.home() / ".aws").is_dir()


def _named(registry: Registry, source: SpecFile | None) -> Iterator[Place]:
    if source is not None:
        yield from _places_of(source.spec.model_dump(mode="json", by_alias=True))
    for cluster in registry.all():
        spec = read_json(cluster.head_dir / "config.json").get("spec") or {"provider": cluster.provider}
        yield from _places_of(_with_engine(spec, cluster))
    for _, provider, _ in builds(registry):
        yield from _places_of({"provider": provider})


def _places_of(spec: Mapping[str, Any]) -> Iterator[Place]:
    """Of the spec's own provider, and of those that its pools name beside it."""
    provider = spec.get("provider") or {}
    own = [provider] if isinstance(provider, str) else [name for name, value in provider.items() if value is not None]
    pools: Iterable[Mapping[str, Any]] = spec.get("pools") or ()
    for name in dict.fromkeys([*own, *(str(pool["provider"]) for pool in pools if pool.get("provider"))]):
        settings = _settings(spec, name) if name in own else {}
        place = Place(name, {"provider": {name: settings}, "auth": spec.get("auth") or {}})
        # A fake cloud without a directory of its own lies with its cluster, and is gone with it.
        if name in _WHERE and (name != "fake" or place.where):
            yield place


def _with_engine(spec: Mapping[str, Any], cluster: Cluster) -> Mapping[str, Any]:
    """Where the spec names no Docker engine, the one that the cluster was made in, whatever DOCKER_HOST says by now."""
    engine = read_json(cluster.provider_dir / "engine.json").get("host")
    settings = _settings(spec, "docker")
    if cluster.provider != "docker" or not engine or settings.get("host"):
        return spec
    return {**spec, "provider": {"docker": {**settings, "host": engine}}}


def _settings(spec: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    provider = spec.get("provider")
    return (provider.get(name) or {}) if isinstance(provider, Mapping) else {}
