"""`clusterctl list`."""

from __future__ import annotations

import time
from typing import Any

from clusterctl.cli import render_status
from clusterctl.cli.call import Call, verb
from clusterctl.cli.text import columns, duration, money
from clusterctl.client.api import Api
from clusterctl.client.registry import Cluster, Registry
from clusterctl.core.errors import ClusterctlError


@verb
def list_clusters(call: Call) -> None:
    """List the clusters known here.

    \b
    Example:
      clusterctl list --json
    """
    clusters = [_describe(cluster) for cluster in Registry().all()]
    call.show({"clusters": clusters}, lambda d: render(d, time.time()))


def _describe(cluster: Cluster) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": cluster.name,
        "uid": cluster.uid,
        "provider": cluster.provider,
        "created": cluster.created,
        "spec": cluster.spec_path,
        "state": "unreachable",
        "nodes": None,
        "price_per_hour": None,
    }
    try:
        with Api.of(cluster) as api:
            status = api.get("/api/v1/status")
    except ClusterctlError as error:
        return document | {"reason": str(error)}
    cost = (status.get("cost") or {}).get("per_hour")
    return document | {"state": status["state"], "nodes": len(status.get("nodes") or []), "price_per_hour": cost}


def render(document: dict[str, Any], now: float) -> str:
    rows = [
        [
            item["name"],
            render_status.state(item["state"]),
            item["provider"],
            "-" if item["nodes"] is None else str(item["nodes"]),
            money(item["price_per_hour"]),
            duration(now - item["created"]),
            item["spec"],
        ]
        for item in document["clusters"]
    ]
    header = ["cluster", "state", "provider", "nodes", "$/h", "age", "spec"]
    return (
        columns(header, rows, right=(3, 4, 5))
        if rows
        else "no clusters are known here: `clusterctl up SPEC` starts one"
    )
