"""Following a node that drains until it is gone."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from clusterctl.client.head.api import Api, follow
from clusterctl.core.errors import ClusterctlError, NotFound

LEAVING = frozenset({"draining", "stopping", "terminating", "failed"})


def last_event(api: Api) -> int:
    """The number of the newest event: what is done next is told by later ones."""
    return int(api.get("/api/v1/events", limit=1).get("last") or 0)


def follow_leave(api: Api, node_id: str, since: int, show: Callable[[dict[str, Any]], None]) -> str:
    """How the node has left ("gone", or "stopped" where its pool keeps it), once it has; `show` is given what the head tells of
    it at each of its events after `since`. Raises ClusterctlError when it takes work again."""
    seen = since

    def open_stream() -> Generator[dict[str, Any], None, None]:
        return api.stream("/api/v1/events", since=seen, follow=1, subject=node_id)

    for event in follow(open_stream):
        seen = max(seen, int(event["seq"]))
        try:
            node = api.get(f"/api/v1/nodes/{node_id}")
        except NotFound:
            return "gone"
        if node["state"] == "stopped":
            return "stopped"
        if node["state"] not in LEAVING:
            raise ClusterctlError(f"node {node_id} does not go: it is {node['state']} ({node['reason']})")
        show(node)
    raise ClusterctlError(f"the head told no more of node {node_id}: `clusterctl node show {node_id}` says where it is")
