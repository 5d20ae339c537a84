"""The machines of an inventory over HTTP: who is connected, and what each is claimed for."""

from __future__ import annotations

from typing import Any

from clusterctl_providers.hosts import HostView
from fastapi import APIRouter

from clusterctl_runtime.head.api.context import HeadDep

router = APIRouter(prefix="/api/v1/hosts", tags=["hosts"])


def _nodes_on(view: HostView) -> list[str]:
    return [claim.node_id for claim in view.claims if claim.state != "terminated"]


@router.get("")
async def list_hosts(head: HeadDep, node: str = "") -> dict[str, Any]:
    """Empty where the cluster has no inventory. With `node`: only the host of that node."""
    views = head.standby.hosts() if head.standby else []
    if node:
        views = [view for view in views if node in _nodes_on(view)]
    return {
        "hosts": [
            {
                "id": view.id,
                "address": view.address,
                "pools": list(view.pools),
                "head": view.head,
                "connected": view.connected,
                "reason": "" if view.connected else view.why,
                "nodes": _nodes_on(view),
                "facts": dict(view.facts),
            }
            for view in views
        ]
    }
