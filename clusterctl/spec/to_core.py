"""A spec as the planner and the providers see it."""

from __future__ import annotations

from typing import Any

from clusterctl.core import lifetime as core_life
from clusterctl.core import model as core
from clusterctl.core.lifecycle import DEADLINES
from clusterctl.core.scheduling.selectors import NO_ENGINE
from clusterctl.spec.hash import head_hash, pool_hash
from clusterctl.spec.model import ClusterSpec
from clusterctl.spec.mounts.agreement import mounts_of
from clusterctl.spec.mounts.documents import container_mounts
from clusterctl.spec.network import has_engine
from clusterctl.spec.parts import Limits
from clusterctl.spec.pool import Pool
from clusterctl.spec.providers.kubernetes import gpu_labels
from clusterctl.spec.units import parse_moment

HEAD_POOL = "head"
INSTALL_SECONDS = 1800.0  # that Ray's wheels may be waited for, fetched and unpacked
MOUNT_SECONDS = 300.0  # that one may take, with its tries
SETUP_SECONDS = 1800.0  # that each command may take before the node counts as lost


def core_pools(spec: ClusterSpec) -> tuple[core.Pool, ...]:
    """The pools for the planner; the first is the implicit pool of the head node."""
    head = core.Pool(
        name=HEAD_POOL,
        provider=spec.provider_name,
        min=1,
        max=1,
        role="head",
        spec_hash=head_hash(spec),
        deadlines=_deadlines(spec, None),
    )
    return (head, *(_core_pool(spec, pool) for pool in spec.pools))


def _core_pool(spec: ClusterSpec, pool: Pool) -> core.Pool:
    return core.Pool(
        name=pool.name,
        provider=spec.kind_of(pool).name,
        min=pool.min,
        max=pool.max,
        labels=core.labels_of(_labels(spec, pool)),
        idle_timeout=pool.idle_timeout,
        orphan_timeout=pool.orphan_timeout,
        spec_hash=pool_hash(spec, pool),
        one_zone_gangs=pool.one_zone,
        max_cost_per_hour=pool.limits.cost_per_hour,
        keep_stopped=pool.keep_stopped,
        deadlines=_deadlines(spec, pool),
    )


def _labels(spec: ClusterSpec, pool: Pool) -> dict[str, str]:
    """The pool's own, and the one by which the engine's work passes over nodes that do not run it."""
    apart = spec.ray is not None and not has_engine(spec, pool)
    return {**pool.labels, **(dict([NO_ENGINE]) if apart else {})}


def _deadlines(spec: ClusterSpec, pool: Pool | None) -> tuple[tuple[str, float], ...]:
    """A node that has setup commands to run, or Ray to install, may be joining for longer. The head's for None."""
    commands = len(spec.setup) + (len(pool.setup) if pool else 0)
    more = SETUP_SECONDS * (commands or 1) if commands or spec.files else 0.0
    more += MOUNT_SECONDS * len(mounts_of(spec, pool))
    if spec.ray is not None and has_engine(spec, pool) and not spec.ray.python and not spec.kind_of(pool).imagined:
        more += INSTALL_SECONDS
    return (("joining", (DEADLINES[core.NodeState.JOINING] or 0.0) + more),) if more else ()


def core_limits(spec: ClusterSpec) -> core.Limits:
    """The spec's limits as the planner takes them."""
    limits: Limits = spec.limits
    per_user = {user: given.model_dump(exclude_none=True) for user, given in limits.per_user.items()}
    return core.Limits(
        nodes=limits.nodes,
        gpus=limits.gpus,
        cost_per_hour=limits.cost_per_hour,
        budget_per_day=limits.budget.per_day,
        budget_per_month=limits.budget.per_month,
        launches_per_minute=limits.launches_per_minute,
        drain_after=limits.drain_after,
        per_user=tuple((user, tuple(sorted(given.items()))) for user, given in sorted(per_user.items())),
    )


def core_lifetime(spec: ClusterSpec) -> core_life.Lifetime:
    """When the cluster ends itself."""
    given = spec.lifetime
    at = parse_moment(given.at).timestamp() if given.at is not None else None
    return core_life.Lifetime(given.after_last_job, given.idle, at)


def pool_requests(spec: ClusterSpec) -> dict[str, dict[str, Any]]:
    """By pool name, what a provider is told of it: its keys as plain JSON data. The head's is in the same form."""
    return {HEAD_POOL: _head_request(spec), **{pool.name: _request(spec, pool) for pool in spec.pools}}


def _request(spec: ClusterSpec, pool: Pool) -> dict[str, Any]:
    """Of its own provider only the name: the settings are that provider's, whatever pool they are written in."""
    data = pool.model_dump(mode="json", by_alias=True)
    mounts = container_mounts(spec, pool)
    if spec.kind_of(pool).machine == "pod" and pool.gpu is not None:
        data["gpu_labels"] = gpu_labels(pool.gpu.name)
    return {**data, "provider": pool.provider_name, "labels": _labels(spec, pool), "mounts": mounts}


def _head_request(spec: ClusterSpec) -> dict[str, Any]:
    head = spec.head
    as_pool = Pool(
        name=HEAD_POOL,
        min=1,
        max=1,
        instances=[head.instance] if head.instance else [],
        zones=[head.zone] if head.zone else [],
        resources=head.resources,
        disk=head.disk,
        image=head.image,
        node_selector=head.node_selector,
        tolerations=head.tolerations,
        hosts=[head.host] if head.host is not None else None,
    )
    mounts = container_mounts(spec, None)
    return {**as_pool.model_dump(mode="json", by_alias=True), "slots": head.slots, "mounts": mounts}
