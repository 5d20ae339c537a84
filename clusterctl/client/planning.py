"""`plan` for a cluster that does not run: what its spec makes the planner buy at once, through the planner itself."""

from __future__ import annotations

import tempfile
import time
import uuid
from typing import TYPE_CHECKING, Any

from clusterctl.client.takedown import make_providers

if TYPE_CHECKING:
    from clusterctl.client.launch import SpecFile
    from clusterctl.core.model import Offer


def plan_new(source: SpecFile) -> dict[str, Any]:
    """The document of `plan --json`: every pool, the nodes of their min, and $/h."""
    from clusterctl.core.diff import plan_document, plan_spec
    from clusterctl.core.model import Policy, State
    from clusterctl.core.planner import plan
    from clusterctl.spec.to_core import core_limits, core_pools

    spec, offers = source.spec, _offers(source)
    state = State(spec.cluster, str(uuid.uuid4()), core_pools(spec), nodes=(), limits=core_limits(spec))
    first = plan(Policy(), (), state, (), offers, time.time())
    fields = spec.model_dump(mode="json", by_alias=True)
    return plan_document(plan_spec(None, fields, first=first, offers=offers))


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
