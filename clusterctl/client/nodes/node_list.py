"""Nodes, page by page: a head answers for many of them in pieces. And what `up` looks at of them while it waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from clusterctl.client.head.api import Api
from clusterctl.core.errors import ClusterctlError

PAGE = 500
LOOK_SECONDS = 1.0  # between two looks at many nodes, and four times as long as such a look takes
Node = dict[str, Any]


def list_nodes(api: Api, limit: int | None = None, **which: Any) -> dict[str, Any]:
    """The document of `nodes --json`: the first `limit` nodes by pool and number, or all. `which`: pool, state, match,
    in_service."""
    nodes: list[Node] = []
    page: dict[str, Any] = {"next": ""}
    while page["next"] is not None and (limit is None or len(nodes) < limit):
        most = PAGE if limit is None else min(limit - len(nodes), PAGE)
        page = api.get("/api/v1/nodes", limit=most, after=page["next"], **which)
        nodes += page["nodes"]
    return {"nodes": nodes, "counts": page["counts"], "total": page["total"]}


def whole_status(api: Api) -> dict[str, Any]:
    """The document of `status --json`: the head's, with every node and not the first ones alone."""
    status = api.get("/api/v1/status")
    return status if not left_out(status) else {**status, "nodes": list_nodes(api)["nodes"]}


def left_out(status: Mapping[str, Any]) -> int:
    """How many nodes there are besides those that the head's status names."""
    return max(0, total(status) - len(status["nodes"]))


def total(status: Mapping[str, Any]) -> int:
    """How many nodes the cluster has, shown or not. Raises ClusterctlError for a head of another version, which does not say."""
    if "node_counts" not in status:
        version = (status.get("head") or {}).get("version") or "an unknown version"
        raise ClusterctlError(
            f"the head of cluster {status.get('cluster')!r} runs another clusterctl ({version}), which does not count its nodes: "
            "use that one for this cluster, or end it with that one's `down` and start it with this one's `up`"
        )
    return sum(status["node_counts"].values())


@dataclass(frozen=True)
class Sight:
    """`nodes` that were looked at, and how many `others` there are by pool, which all take work."""

    nodes: list[Node]
    others: dict[str, int] = field(default_factory=dict[str, int])


class Lookout:
    """Which nodes to look at beside each status: all of a few; of many those that do not take work yet, or any more."""

    def __init__(self, api: Api, clock: Callable[[], float] = time.monotonic) -> None:
        self._api, self._clock = api, clock
        self._due = clock()
        self._nodes: list[Node] = []

    def look(self, status: Mapping[str, Any]) -> Sight:
        """The nodes beside this status. Many are listed anew at most a fifth of the time that passes."""
        if not left_out(status):
            return Sight(status["nodes"])
        began = self._clock()
        if began >= self._due:
            self._nodes = list_nodes(self._api, in_service=0)["nodes"]
            now = self._clock()
            self._due = now + max(LOOK_SECONDS, 4 * (now - began))
        pools = {pool["name"]: pool["in_service"] for pool in status["pools"]} | {"head": status["head"]["in_service"]}
        return Sight(self._nodes, {name: count for name, count in pools.items() if count})
