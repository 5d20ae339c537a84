"""`gc`: what the providers hold of clusters that nobody looks after any more.

A cluster is looked after when it is known here, when another home on this machine knows it, or when its head runs. The
providers searched are this machine and those of the clusters known here.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from clusterctl.client.imaging import builds
from clusterctl.client.registry import Registry, read_json
from clusterctl.client.takedown import make_providers
from clusterctl.core.errors import ClusterctlError

if TYPE_CHECKING:
    from clusterctl.client.launch import SpecFile
    from clusterctl.provision.gc import Stray


def collect_strays(
    registry: Registry, source: SpecFile | None = None, tell: Callable[[str], None] = lambda _: None, *, dry_run: bool
) -> list[Stray]:
    """Finds, and unless `dry_run` ends, every instance whose cluster nobody looks after; on the hosts of `source`, too."""
    from clusterctl.provision.gc import collect

    owned = {cluster.uid for cluster in registry.all()} | uids_in_use()
    owned |= {uid for uid, _, busy in builds(registry) if busy}
    with tempfile.TemporaryDirectory(prefix="clusterctl-gc-") as scratch:
        specs = provider_specs(registry)

        def open_provider(name: str, cluster: str, uid: str) -> Any:
            return _open(specs[name], cluster, uid, scratch)

        providers = {name: _open(spec, "", "", scratch) for name, spec in specs.items()}
        try:
            strays = collect(providers, open_provider, lambda uid: uid in owned, time.time(), dry_run=dry_run)
        finally:
            for provider in providers.values():
                provider.close()
    if source is None:
        return strays
    from clusterctl.client.hostowners import clean_hosts

    return [*strays, *clean_hosts(registry, source, owned, tell, dry_run=dry_run)]


def uids_in_use() -> set[str]:
    """The uids of clusters that another home still knows, or whose head runs: found by the paths in the command lines of
    heads and agents on this machine."""
    uids: set[str] = set()
    for process in psutil.process_iter():
        try:
            arguments = process.cmdline()
        except psutil.Error:
            continue
        for argument in arguments:
            if argument.startswith("/") and "/clusters/" in argument:
                uids |= {_uid_in(directory) for directory in (Path(argument), *Path(argument).parents)}
    return uids - {""}


def _uid_in(directory: Path) -> str:
    """The uid of the cluster or the head whose directory this is, "" for any other."""
    for name in ("cluster.json", "config.json"):
        try:
            uid = read_json(directory / name).get("uid")
        except ClusterctlError:
            continue  # another user's, or half written
        if uid:
            return str(uid)
    return ""


def provider_specs(registry: Registry) -> dict[str, dict[str, Any]]:
    """Provider name -> a spec that names it alone, with the settings of a cluster known here."""
    specs: dict[str, dict[str, Any]] = {"local": {"provider": "local"}}
    for cluster in registry.all():
        spec = read_json(cluster.head_dir / "config.json").get("spec") or {}
        provider = spec.get("provider")
        names = [provider] if isinstance(provider, str) else [k for k, v in (provider or {}).items() if v is not None]
        for name in names:
            specs.setdefault(name, {"provider": provider, "auth": spec.get("auth") or {}})
    for _, provider, _ in builds(registry):
        for name in provider:
            specs.setdefault(name, {"provider": provider})
    if "docker" not in specs and _docker_answers():
        specs["docker"] = {"provider": "docker"}
    return specs


def _docker_answers() -> bool:
    """Whether there is an engine on which a home that is gone may have left something."""
    from clusterctl_providers import ProviderUnavailable, make_provider
    from clusterctl_providers.base import ProviderContext

    try:
        provider = make_provider("docker", ProviderContext("", "", ""))
    except ProviderUnavailable:
        return False
    try:
        return all(scope.complete for scope in provider.list())
    finally:
        provider.close()


def _open(spec: dict[str, Any], cluster: str, uid: str, scratch: str) -> Any:
    return next(iter(make_providers(cluster, uid, scratch, spec).values()))
