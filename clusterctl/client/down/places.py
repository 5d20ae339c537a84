"""Where instances of ours can be: every account, engine and machine that something here names, or has credentials for.

`gc` and `list --adopt` search these. Two clusters of one provider are in two places when their settings lead elsewhere:
another region, another profile, another engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clusterctl.client.down.take_down import make_providers
from clusterctl.client.images.build import builds
from clusterctl.client.registry import Cluster, Registry, read_json
from clusterctl.provision.used_providers import scratch, used
from clusterctl.spec.providers.given import providers_in
from clusterctl.spec.providers.kind import Kind, Search
from clusterctl.spec.providers.registry import KINDS

if TYPE_CHECKING:
    from clusterctl.client.specfile import SpecFile, SpecFiles


@dataclass(frozen=True)
class Place:
    """`spec` names its provider alone, with its settings. `named`: something here speaks of it, so that not reaching it is
    an error; else it only might hold something."""

    provider: str
    spec: Mapping[str, Any]
    named: bool = True

    @property
    def search(self) -> Search:
        search = KINDS[self.provider].search
        assert search is not None, f"machines of {self.provider} say themselves whose they are"
        return search

    @property
    def quiet(self) -> bool:
        """That it does not answer is no news where nothing names it."""
        return self.search.looked == "tried"

    @property
    def where(self) -> tuple[tuple[str, str], ...]:
        """The settings that say where its instances are, as (key, value)."""
        settings = _settings(self.spec, self.provider)
        return tuple((key, str(settings[key])) for key in self.search.where if settings.get(key))

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


def places(registry: Registry, source: SpecFile | SpecFiles | None = None) -> list[Place]:
    """This machine, what `source` names, what the clusters and image builds known here use, and engines and clouds that this
    user has. Hosts reached by SSH say themselves whose they are."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], Place] = {}
    for place in _named(registry, source):
        found.setdefault((place.provider, place.where), place)
    providers = {place.provider for place in found.values()}
    for kind in KINDS.values():
        if kind.name not in providers and _is_worth_a_look(kind):
            found[kind.name, ()] = Place(kind.name, {"provider": kind.name}, named=False)
    # last: processes of this machine may be the nodes of another provider
    last = [Place(kind.name, {"provider": kind.name}) for kind in KINDS.values() if _looked(kind) == "always"]
    return [*(place for place in found.values() if place.search.looked != "always"), *last]


def _looked(kind: Kind) -> str:
    return kind.search.looked if kind.works and kind.search is not None else ""


def _is_worth_a_look(kind: Kind) -> bool:
    """Whether there may be something, although nothing here names it."""
    looked = _looked(kind)
    return looked == "tried" or (looked == "account" and has_account(kind))


def has_account(kind: Kind) -> bool:
    """Whether something here says that this user has an account there."""
    return kind.search is not None and kind.search.account is not None and kind.search.account.is_here()


def is_place_of(place: Place, source: SpecFile) -> bool:
    """Whether a cluster of this spec has its instances there: not one of the same name in another region."""
    own = next(_places_of(source.spec.model_dump(mode="json", by_alias=True)), None)
    return own is not None and (own.provider, own.where) == (place.provider, place.where)


def _named(registry: Registry, source: SpecFile | SpecFiles | None) -> Iterator[Place]:
    for one in source.each if source is not None else ():
        yield from _places_of(one.spec.model_dump(mode="json", by_alias=True))
    for cluster in registry.all():
        spec = cluster.read_config().get("spec") or {"provider": cluster.provider}
        named = providers_in(spec)
        former = {name: settings for name, settings in used(cluster.head_dir).items() if name not in named}
        for name, settings in {**named, **former}.items():
            found = _as_found(name, settings, cluster)
            yield from _places_of({"provider": {name: found}, "auth": spec.get("auth")})
    for _, provider, _ in builds(registry):
        yield from _places_of({"provider": provider})


def _places_of(spec: Mapping[str, Any]) -> Iterator[Place]:
    """Of the spec's own provider, and of those that its pools name beside it."""
    for name, settings in providers_in(spec).items():
        place = Place(name, {"provider": {name: settings}, "auth": spec.get("auth") or {}})
        search = KINDS[name].search if name in KINDS else None
        if search is not None and (search.unset or place.where):
            yield place


def _as_found(name: str, settings: Mapping[str, Any], cluster: Cluster) -> Mapping[str, Any]:
    """Where the spec does not say where instances of that provider are, the place that the provider has noted, whatever the
    environment says by now."""
    search = KINDS[name].search if name in KINDS else None
    if search is None or not search.note:
        return settings
    note = read_json(scratch(cluster.provider_dir, name, cluster.provider) / search.note)
    return {**settings, **{key: note[key] for key in search.where if note.get(key) and not settings.get(key)}}


def _settings(spec: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    provider = spec.get("provider")
    return (provider.get(name) or {}) if isinstance(provider, Mapping) else {}
