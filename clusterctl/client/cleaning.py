"""`gc`: what the providers hold of clusters that nobody looks after any more.

A cluster is looked after when it is known here, or when its head runs on this machine for another home. The providers
searched are this machine and those of the clusters known here.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from clusterctl.client.registry import Registry, read_json
from clusterctl.client.takedown import make_providers
from clusterctl.core.errors import ClusterctlError

if TYPE_CHECKING:
    from clusterctl.provision.gc import Stray


def collect_strays(registry: Registry, *, dry_run: bool) -> list[Stray]:
    """Finds, and unless `dry_run` ends, every instance whose cluster nobody looks after."""
    from clusterctl.provision.gc import collect

    owned = {cluster.uid for cluster in registry.all()} | uids_of_running_heads()
    with tempfile.TemporaryDirectory(prefix="clusterctl-gc-") as scratch:
        specs = _provider_specs(registry)

        def open_provider(name: str, cluster: str, uid: str) -> Any:
            return _open(specs[name], cluster, uid, scratch)

        providers = {name: _open(spec, "", "", scratch) for name, spec in specs.items()}
        try:
            return collect(providers, open_provider, lambda uid: uid in owned, time.time(), dry_run=dry_run)
        finally:
            for provider in providers.values():
                provider.close()


def uids_of_running_heads() -> set[str]:
    """The uids of all heads of this user that run on this machine, whatever home they belong to."""
    uids: set[str] = set()
    for process in psutil.process_iter():
        try:
            arguments = process.cmdline()
        except psutil.Error:
            continue
        if any(argument.startswith("clusterctl_runtime.head") for argument in arguments):
            uids.add(_uid_in(arguments[-1]))
    return uids - {""}


def _uid_in(directory: str) -> str:
    try:
        return str(read_json(Path(directory) / "config.json").get("uid") or "")
    except ClusterctlError:
        return ""


def _provider_specs(registry: Registry) -> dict[str, dict[str, Any]]:
    """Provider name -> a spec that names it alone, with the settings of a cluster known here."""
    specs: dict[str, dict[str, Any]] = {"local": {"provider": "local"}}
    for cluster in registry.all():
        spec = read_json(cluster.head_dir / "config.json").get("spec") or {}
        provider = spec.get("provider")
        names = [provider] if isinstance(provider, str) else [k for k, v in (provider or {}).items() if v is not None]
        for name in names:
            specs.setdefault(name, {"provider": provider, "auth": spec.get("auth") or {}})
    return specs


def _open(spec: dict[str, Any], cluster: str, uid: str, scratch: str) -> Any:
    return next(iter(make_providers(cluster, uid, scratch, spec).values()))
