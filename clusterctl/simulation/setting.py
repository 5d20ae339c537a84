"""From a spec to what the simulator needs: worker pools, offers with prices, limits. Offline, nothing is contacted."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Any

from clusterctl_providers import catalog, make_provider
from clusterctl_providers.base import PoolRequest, ProviderContext

from clusterctl.core.model import Offer, labels_of
from clusterctl.core.resources import Resources
from clusterctl.core.simulate.state import UID, Setting
from clusterctl.spec.model import ClusterSpec
from clusterctl.spec.providers.kind import Kind
from clusterctl.spec.providers.registry import KINDS
from clusterctl.spec.to_core import HEAD_POOL, core_limits, core_pools, pool_requests


@dataclass(frozen=True)
class SpecSetting:
    """`notes` are sentences about pools without offers, guessed regions and the like; `left_out` names types not offered
    as (pool, type, code, text)."""

    setting: Setting
    notes: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str, str, str], ...] = ()


def setting_of(spec: ClusterSpec) -> SpecSetting:
    """The head node is left out: it costs the same under every policy."""
    requests = pool_requests(spec)
    pools = tuple(pool for pool in core_pools(spec) if pool.name != HEAD_POOL)
    offers: list[Offer] = []
    notes: list[str] = []
    left_out: list[tuple[str, str, str, str]] = []
    for pool in pools:
        found, said, passed = _offers(
            spec.cluster,
            KINDS[pool.provider],
            spec.providers[pool.provider],
            {**requests[pool.name], "name": pool.name},
        )
        if not found:
            why = f": {passed[0].text}" if passed else ""
            notes.append(f"pool {pool.name} has no offers{why}; its work will wait")
        offers.extend(found)
        notes.extend(note for note in said if note not in notes)
        left_out.extend((pool.name, entry.instance_type, entry.code, entry.text) for entry in passed)
    return SpecSetting(Setting(pools, tuple(offers), core_limits(spec)), tuple(notes), tuple(left_out))


def _offers(
    cluster: str, kind: Kind, settings: dict[str, Any], pool: dict[str, Any]
) -> tuple[list[Offer], list[str], tuple[catalog.LeftOut, ...]]:
    if kind.cloud is not None:
        region = str(settings.get("region") or kind.cloud.region)
        notes = (
            [] if settings.get("region") else [f"provider {kind.name} names no region: prices are those of {region}"]
        )
        if pool.get("reservation") and not pool.get("instances") and not pool.get("gpu"):
            what = f"what {pool['reservation']} of pool {pool['name']} reserves is known to {kind.title} alone"
            return [], [*notes, f"{what}: name it in `instances` to have it simulated"], ()
        choice = catalog.choose(kind.cloud.catalogue, region, pool.get("zones") or [], pool)
        return list(choice.offers), notes, choice.left_out
    if kind.imagined:  # it asks nobody
        with tempfile.TemporaryDirectory(prefix="clusterctl-simulate-") as directory:
            provider = make_provider(kind.name, ProviderContext(cluster, UID, directory, settings))
            try:
                return list(provider.offers(PoolRequest(pool["name"], pool))), [], ()
            finally:
                provider.close()
    return [_own_hardware(kind, pool)], [f"pool {pool['name']} is own hardware: it costs nothing here"], ()


def _own_hardware(kind: Kind, pool: dict[str, Any]) -> Offer:
    """A node of a pool whose machines are the user's own, as the spec declares it."""
    gpu = pool.get("gpu") or {}
    amounts = {"CPU": 1.0, **(pool.get("resources") or {})}
    if gpu:
        amounts.setdefault("GPU", float(gpu.get("count") or 1))
    return Offer(
        pool=pool["name"],
        instance_type=kind.name,
        market="on-demand",
        zone=kind.name,
        price=0.0,
        resources=Resources.of(amounts),
        labels=labels_of(pool.get("labels")),
        gpu_type=str(gpu.get("name") or ""),
        price_source="own hardware",
        boot_seconds=kind.boot_seconds,
    )
