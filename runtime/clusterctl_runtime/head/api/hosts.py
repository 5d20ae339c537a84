"""The machines of an inventory over HTTP: who is connected, and what each is claimed for."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from clusterctl_runtime.head.api.context import HeadDep

router = APIRouter(prefix="/api/v1/hosts", tags=["hosts"])


@router.get("")
async def list_hosts(head: HeadDep) -> dict[str, Any]:
    """Empty where the cluster has no inventory."""
    views = head.standby.hosts() if head.standby else []
    return {
        "hosts": [
            {
                "id": view.id,
                "address": view.address,
                "pools": list(view.pools),
                "head": view.head,
                "connected": view.connected,
                "reason": "" if view.connected else view.why,
                "nodes": [claim.node_id for claim in view.claims if claim.state != "terminated"],
                "facts": dict(view.facts),
            }
            for view in views
        ]
    }
