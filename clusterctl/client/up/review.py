"""What a spec names and its cloud does not have, told with its place in the file before anything is made."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import TYPE_CHECKING

from clusterctl.client.down.take_down import make_providers

if TYPE_CHECKING:
    from clusterctl_providers.base import Objection, Provider

    from clusterctl.client.specfile import SpecFile
    from clusterctl.spec.faults import Fault, Path

_OF_THE_HEAD = {"instances": "instance", "zones": "zone"}  # a pool of one machine, in the words of `head:`


def review_spec(source: SpecFile) -> None:
    """Raises SpecError with everything that its providers say is not there. What they cannot tell, for want of credentials or
    of an answer, is no fault: who goes on will be told."""
    if all(source.spec.kind_of(pool).cloud is None for pool in (None, *source.spec.pools)):
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
    """The same with providers that are open; those that cannot review are passed over."""
    from clusterctl_providers.base import HasReview, PoolRequest

    from clusterctl.core.errors import ProviderError
    from clusterctl.spec.faults import SpecError
    from clusterctl.spec.to_core import core_pools, pool_requests

    requests = pool_requests(source.spec)
    faults: list[Fault] = []
    for name, provider in providers.items():
        if not isinstance(provider, HasReview):
            continue
        pools = [
            PoolRequest(pool.name, requests[pool.name], pool.role)
            for pool in core_pools(source.spec)
            if pool.provider == name
        ]
        try:
            objections = provider.review(pools)
        except ProviderError:
            continue
        faults += [_fault(objection, name, source) for objection in objections]
    if faults:
        raise SpecError(faults)


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
    return ("pools", index, key)
