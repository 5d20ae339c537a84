"""`plan` for a cluster that does not run: what its spec makes the planner buy at once, through the planner itself."""

from __future__ import annotations

import tempfile
import time
import uuid
from typing import TYPE_CHECKING, Any

from clusterctl.client.takedown import make_providers

if TYPE_CHECKING:
    from clusterctl.client.launch import SpecFile
    from clusterctl.core.model import Launch, Offer
    from clusterctl.core.model import Pool as CorePool


def plan_new(source: SpecFile) -> dict[str, Any]:
    """The document of `plan --json`: one action per pool, with the nodes of its min and their price."""
    from clusterctl.core.model import Launch, Policy, State
    from clusterctl.core.planner import plan
    from clusterctl.spec.to_core import core_limits, core_pools

    spec = source.spec
    pools = core_pools(spec)
    state = State(cluster=spec.cluster, uid=str(uuid.uuid4()), pools=pools, nodes=(), limits=core_limits(spec))
    decided = plan(Policy(), (), state, (), _offers(source), time.time())
    launches = [action for action in decided.actions if isinstance(action, Launch)]
    return {
        "cluster": spec.cluster,
        "actions": [_action(pool, [launch for launch in launches if launch.offer.pool == pool.name]) for pool in pools],
        "cost": {"before": decided.price_before, "after": decided.price_after},
        "warnings": [wait.reason.text for wait in decided.waits],
    }


def _offers(source: SpecFile) -> tuple[Offer, ...]:
    from clusterctl_providers.base import PoolRequest

    from clusterctl.spec.to_core import core_pools, pool_requests

    spec, requests = source.spec, pool_requests(source.spec)
    with tempfile.TemporaryDirectory(prefix="clusterctl-plan-") as scratch:
        providers = make_providers(spec.cluster, "", scratch, spec.model_dump(mode="json", by_alias=True))
        try:
            return tuple(
                offer
                for pool in core_pools(spec)
                for offer in providers[pool.provider].offers(PoolRequest(pool.name, requests[pool.name], pool.role))
            )
        finally:
            for provider in providers.values():
                provider.close()


def _action(pool: CorePool, launches: list[Launch]) -> dict[str, Any]:
    offers = sorted({launch.offer.key for launch in launches})
    fields: dict[str, Any] = {"min": pool.min, "max": pool.max, "nodes": len(launches)}
    if offers:
        fields |= {"offers": ", ".join(offers), "price_per_hour": sum(launch.offer.price for launch in launches)}
    return {
        "op": "add",
        "kind": "pool",
        "name": pool.name,
        "fields": fields,
        "policy": "new",
        "reason": launches[0].reason.text if launches else "nodes are added when something asks for them",
    }
