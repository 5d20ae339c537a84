"""What `doctor` asks providers: engines that may be here, and clouds where this user has an account, or that a spec names.

What there is to be checked a provider knows itself (`HasDoctor`), when it is asked its Kind says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from clusterctl.client.doctor.check import Check
from clusterctl.client.down.places import has_account
from clusterctl.client.registry import Registry
from clusterctl.core.errors import ClusterctlError
from clusterctl.spec.places import name_of
from clusterctl.spec.providers.kind import Kind
from clusterctl.spec.providers.registry import KINDS

if TYPE_CHECKING:
    from clusterctl_providers.base import Provider

    from clusterctl.spec.model import ClusterSpec

Answer = tuple[str, bool, str]  # (what was checked, ok, what to do)


def provider_checks(registry: Registry, *specs: ClusterSpec) -> list[Check]:
    """Of those that this machine may have, one line where all is well; of clouds a line for each thing that the `specs` need,
    which are one for each place where a cluster may be, else the clusters known here; none where nothing says that this
    user has an account there."""
    found: list[Check] = []
    for kind in KINDS.values():
        looked = kind.search.looked if kind.works and kind.search is not None else ""
        if looked == "tried":
            found += _engine(kind)
        elif looked == "account" and specs:
            of_it = [spec for spec in specs if kind.name in spec.providers]
            found += [check for spec in of_it for check in _needed(kind, spec, _title(kind, spec, len(specs)))]
        elif looked == "account":
            found += _account(kind, registry)
    return found


def place_checks(spec: ClusterSpec, name: str = "") -> list[Check]:
    """Of the cloud of `spec` alone, a line for each thing that it needs there."""
    return _needed(spec.kind, spec, name or spec.kind.name)


def _needed(kind: Kind, spec: ClusterSpec, title: str) -> list[Check]:
    if kind.search is None or kind.search.looked != "account":
        return []
    return _rows(title, _of_cloud(kind, spec.providers[kind.name], spec), needed=True)


def _title(kind: Kind, spec: ClusterSpec, places: int) -> str:
    """Of the rows of one of so many places."""
    return name_of(kind.name, spec.providers[kind.name]) if places > 1 else kind.name


def _engine(kind: Kind) -> list[Check]:
    """As the provider reaches it. A line for each thing that is wrong."""
    from clusterctl_providers import ProviderUnavailable

    try:
        provider = _make(kind, {})
    except ProviderUnavailable:
        extra = kind.library.extra if kind.library else kind.name
        fix = f"for `provider: {kind.name}`: pip install 'clusterctl[{extra}]'"
        return [Check(kind.name, False, "its library is not installed", fix)]
    answers = _ask(provider)
    wrong = [Check(kind.name, False, *_wrong(what, fix)) for what, ok, fix in answers if not ok]
    return wrong or [Check(kind.name, True, answers[0][0], "")]


def _wrong(what: str, fix: str) -> tuple[str, str]:
    """(what there is, what to do). An error of the engine's has both in its sentence."""
    trouble, end, todo = fix.partition("): ")
    return (f"{trouble})", todo) if end else (f"not so: {what}", fix)


def _account(kind: Kind, registry: Registry) -> list[Check]:
    answers = (one for settings in _settings(kind, registry) for one in _of_cloud(kind, settings))
    return _rows(kind.name, answers, needed=False)


def _rows(name: str, answers: Iterable[Answer], *, needed: bool) -> list[Check]:
    return [
        Check(f"{name}: {what}", True, "", fix, needed=needed)
        if ok
        else Check(name, False, f"no {what}", fix, needed=needed)
        for what, ok, fix in dict.fromkeys(answers)
    ]


def _of_cloud(kind: Kind, settings: Mapping[str, Any], spec: ClusterSpec | None = None) -> Iterator[Answer]:
    from clusterctl_providers import ProviderUnavailable

    reach = str(settings.get("reach") or "")
    way = kind.cloud.reach.get(reach) if kind.cloud is not None else None
    for name, fix in way.missing() if way is not None else ():
        yield f"program {name} for `reach: {reach}`", False, fix
    try:
        provider = _make(kind, settings)
    except (ProviderUnavailable, ClusterctlError) as error:
        yield f"way to use {kind.title}", False, str(error)
        return
    yield from _ask(provider, spec)


def _make(kind: Kind, settings: Mapping[str, Any]) -> Provider:
    from clusterctl_providers import make_provider
    from clusterctl_providers.base import ProviderContext

    return make_provider(kind.name, ProviderContext("", "", "", settings))


def _ask(provider: Provider, spec: ClusterSpec | None = None) -> list[Answer]:
    """The provider's own checks, of what the pools of `spec` would launch where it is given. It is closed then."""
    from clusterctl_providers.base import HasDoctor, HasDoctorFor, PoolRequest

    from clusterctl.spec.to_core import pool_requests

    try:
        if spec is not None and isinstance(provider, HasDoctorFor):
            requests, own = pool_requests(spec), spec.provider_name
            mine = {name: pool for name, pool in requests.items() if (pool["provider"] or own) == provider.name}
            return provider.doctor_for([PoolRequest(name, pool) for name, pool in mine.items()])
        return provider.doctor() if isinstance(provider, HasDoctor) else []
    finally:
        provider.close()


def _settings(kind: Kind, registry: Registry) -> list[Mapping[str, Any]]:
    """Those of the clusters known here, else none in particular where this user has an account."""
    found: list[Mapping[str, Any]] = []
    for cluster in registry.all():
        provider = (cluster.read_config().get("spec") or {}).get("provider")
        if isinstance(provider, dict) and provider.get(kind.name) is not None:
            found += [provider[kind.name]] if provider[kind.name] not in found else []
    return found or ([{}] if has_account(kind) else [])
