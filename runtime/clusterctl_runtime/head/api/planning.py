"""`plan SPEC` against the running cluster: what putting it in force would change, by the planner and the head's own books."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from clusterctl_providers.base import PoolRequest

from clusterctl.core import diff
from clusterctl.core.model import Offer
from clusterctl.spec.lifetime import lifetime_notes
from clusterctl.spec.model import ClusterSpec
from clusterctl.spec.network import network_notes
from clusterctl.spec.to_core import core_limits, core_pools, pool_requests
from clusterctl_runtime.head.spec_change import what_changes

if TYPE_CHECKING:
    from clusterctl_runtime.head.head import Head


def plan_document(head: Head, spec: ClusterSpec) -> dict[str, Any]:
    """The document of `plan --json`. Nothing is changed by asking."""
    now = head.autoscaler.situation()
    offers = _offers(head, spec)
    state = replace(now.state, pools=core_pools(spec), limits=core_limits(spec))
    first = replace(now, state=state, offers=offers).plan()
    document = diff.plan_document(what_changes(head.config.spec, spec, state.nodes, first, offers))
    return {**document, "notes": [*network_notes(spec), *lifetime_notes(spec)]}


def _offers(head: Head, spec: ClusterSpec) -> tuple[Offer, ...]:
    """What there would be for the pools of `spec`. A pool of a provider that this cluster does not use has none: `plan`
    says that the change is refused."""
    requests = pool_requests(spec)
    return tuple(
        offer
        for pool in core_pools(spec)
        if pool.provider in head.provisioner.providers
        for offer in head.provisioner.providers[pool.provider].offers(
            PoolRequest(pool.name, requests[pool.name], pool.role)
        )
    )
