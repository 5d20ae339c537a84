"""What a spec names and its cloud does not have, told with its place in the file before anything is made: by the names that are
known here, and by the cloud where it can be asked."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from clusterctl.client.down.take_down import make_providers

if TYPE_CHECKING:
    from clusterctl_providers.base import Objection, PoolRequest, Provider
    from clusterctl_providers.catalog.names import Doubt

    from clusterctl.client.specfile import SpecFile
    from clusterctl.spec.faults import Fault, Path
    from clusterctl.spec.providers.kind import Kind

_OF_THE_HEAD = {"instances": "instance", "zones": "zone"}  # a pool of one machine, in the words of `head:`


def review_spec(source: SpecFile) -> None:
    """Raises SpecError with everything that its providers say is not there. What they cannot tell, for want of credentials or
    of an answer, is no fault: who goes on will be told."""
    kinds = [source.spec.kind_of(pool) for pool in (None, *source.spec.pools)]
    if all(kind.cloud is None and kind.machine != "pod" for kind in kinds):
        return  # nothing there has a name that could be wrong
    with tempfile.TemporaryDirectory(prefix="clusterctl-review-") as scratch:
        # what the user wrote, and no defaults of ours
        own, *others = ({name: settings} for name, settings in source.spec.providers.items())
        fields = {
            "provider": own,
            "pools": [{"provider": other} for other in others],
            "auth": source.spec.auth.model_dump(),
        }
        providers = make_providers(source.name, "", scratch, fields)
        try:
            review_with(providers, source)
        finally:
            for provider in providers.values():
                provider.close()


def review_with(providers: Mapping[str, Provider], source: SpecFile) -> None:
    """The same with providers that are open. Of those that cannot review, or cannot be asked now, names are compared with those
    that are known here."""
    from clusterctl_providers.base import HasReview

    from clusterctl.core.errors import ProviderError
    from clusterctl.spec.faults import SpecError

    faults: list[Fault] = []
    for name, provider in providers.items():
        pools = _requests(source, name)
        try:
            if isinstance(provider, HasReview):
                faults += [_fault(objection, name, source) for objection in provider.review(pools)]
                continue
        except ProviderError:
            pass
        faults += [fault for fault, certain in _doubts_of(source, name) if certain]
    if faults:
        raise SpecError(faults)


def check_names(source: SpecFile) -> tuple[Fault, ...]:
    """Raises SpecError with every region, zone, instance type and GPU that nobody has; returns what is only not known here. Asks
    nobody."""
    from clusterctl.spec.faults import SpecError

    names = {source.spec.kind_of(pool).name for pool in (None, *source.spec.pools)}
    doubts = [doubt for name in sorted(names) for doubt in _doubts_of(source, name)]
    if faults := [fault for fault, certain in doubts if certain]:
        raise SpecError(faults)
    return tuple(fault for fault, _ in doubts)


def _requests(source: SpecFile, provider: str) -> list[PoolRequest]:
    from clusterctl_providers.base import PoolRequest

    from clusterctl.spec.to_core import core_pools, pool_requests

    requests = pool_requests(source.spec)
    pools = (pool for pool in core_pools(source.spec) if pool.provider == provider)
    return [PoolRequest(pool.name, requests[pool.name], pool.role) for pool in pools]


def _doubts_of(source: SpecFile, provider: str) -> Iterator[tuple[Fault, bool]]:
    """With whether it is certain."""
    from clusterctl_providers.base import Objection

    kind = next(one for one in map(source.spec.kind_of, (None, *source.spec.pools)) if one.name == provider)
    if kind.cloud is None:
        return
    settings = source.spec.providers[provider]
    for pool, key, value, doubt in _doubts(kind, settings, _requests(source, provider)):
        yield _fault(Objection(pool, key, value, doubt.text, doubt.fix), provider, source), doubt.certain


def _doubts(
    kind: Kind, settings: Mapping[str, object], pools: list[PoolRequest]
) -> Iterator[tuple[str, str, str, Doubt]]:
    """(pool, key, value, what is wrong). A cloud at another endpoint than its own has regions and zones of its own."""
    from clusterctl_providers.catalog.names import doubt_gpu, doubt_region, doubt_type, doubt_zone

    assert kind.cloud is not None
    catalogue, region = kind.cloud.catalogue, str(settings.get("region") or "")
    apart = bool(settings.get("endpoint_url"))
    if not apart and (doubt := doubt_region(kind.name, region)):
        yield "", "region", region, doubt
    for pool in pools:
        for zone in () if apart else pool.spec.get("zones") or ():
            if doubt := doubt_zone(kind.name, region, zone):
                yield pool.name, "zones", zone, doubt
        for name in pool.spec.get("instances") or ():
            if doubt := doubt_type(catalogue, name):
                yield pool.name, "instances", name, doubt
        gpu = pool.spec.get("gpu")
        name = str(gpu.get("name") or "") if gpu else ""
        if gpu and (doubt := doubt_gpu(catalogue, name, float(gpu.get("count") or 1))):
            yield pool.name, "gpu", name, doubt


def _fault(objection: Objection, provider: str, source: SpecFile) -> Fault:
    return source.located.fault(_path(objection, provider, source), objection.text, objection.fix)


def _settings_path(provider: str, source: SpecFile) -> Path:
    """Where the spec has the settings of that provider."""
    pools = enumerate(source.spec.pools)
    written = (n for n, pool in pools if pool.provider_name == provider and pool.provider_settings is not None)
    index = None if provider == source.spec.provider_name else next(written, None)
    return ("provider", provider) if index is None else ("pools", index, "provider", provider)


def _path(objection: Objection, provider: str, source: SpecFile) -> Path:
    key = objection.key
    if not objection.pool:
        return (*_settings_path(provider, source), key)
    if objection.pool == "head":
        return ("head", _OF_THE_HEAD.get(key, key))
    index = next(n for n, pool in enumerate(source.spec.pools) if pool.name == objection.pool)
    items = getattr(source.spec.pools[index], key, None)
    if isinstance(items, list) and objection.value in items:
        return ("pools", index, key, items.index(objection.value))
    return ("pools", index, key, "name") if key == "gpu" and objection.value else ("pools", index, key)
