"""Nodes over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from clusterctl.core.errors import NotFound, UsageError
from clusterctl.core.model import LIVE_STATES, NodeState, NodeView
from clusterctl_runtime.head.api.context import HeadDep
from clusterctl_runtime.head.api.node_documents import Wanted, node_detail, node_page
from clusterctl_runtime.head.clock import steady_time

if TYPE_CHECKING:
    from clusterctl_runtime.head.head import Head

router = APIRouter(prefix="/api/v1/nodes", tags=["nodes"])
MOST_ON_PAGE = 1000
DRAIN_SECONDS, LONGEST_DRAIN = 600.0, 30 * 86400.0
WHOLE_OUTPUT = 1024 * 1024  # more than an agent sends


def _view(head: Head, node_id: str) -> NodeView:
    view = head.fleet.roster.get(node_id, steady_time())
    if view is not None:
        return view
    if head.journal.get(node_id):
        raise NotFound(f"node {node_id} is gone: `clusterctl explain {node_id}` tells its story")
    raise NotFound(f"no node {node_id!r} in this cluster: `clusterctl nodes` lists them")


@router.get("")
async def list_nodes(
    head: HeadDep,
    pool: str = "",
    state: str = "",
    match: str = "",
    in_service: bool | None = None,
    limit: int = Query(default=100, ge=1, le=MOST_ON_PAGE),
    after: str = "",
) -> dict[str, Any]:
    """A page of those of `pool`, in one of the states in `state` (with commas between them), with all words of `match` in what
    is shown of them. `next` is the `after` of the page behind it, null when there is none; `total` is how many there are on
    all pages, `before` on those before this one; `counts` are of all nodes, or of all of the pool."""
    wanted = Wanted(_known_pool(head, pool), _states(state), match.lower().split(), in_service)
    return await node_page(head, wanted, limit, after)


def _states(text: str) -> list[NodeState]:
    states = {state.value: state for state in NodeState if state in LIVE_STATES}
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in states:
            raise UsageError(f"no node that is listed has the state {name!r}: they are {', '.join(states)}")
    return [states[name] for name in names]


def _known_pool(head: Head, name: str) -> str:
    """Nodes outlive their pool when it leaves the spec."""
    pools = ["head", *(pool.name for pool in head.config.spec.pools)]
    if name and name not in pools and all(node.pool != name for node in head.journal.nodes().values()):
        raise NotFound(f"no pool {name!r} in this cluster: it has {', '.join(pools)}")
    return name


@router.get("/{node_id}")
async def show_node(node_id: str, head: HeadDep) -> dict[str, Any]:
    return node_detail(head, _view(head, node_id))


@router.get("/{node_id}/setup")
async def show_setup(node_id: str, head: HeadDep) -> dict[str, Any]:
    """How far the spec's files and setup are on a node, and all that is kept of what its last setup printed; of a node that
    is gone, too."""
    node = head.journal.get(node_id)
    if node is None:
        raise NotFound(f"no node {node_id!r} in this cluster: `clusterctl nodes` lists them")
    output = head.preparing.output(node_id, limit=WHOLE_OUTPUT)
    return {"id": node_id, "state": node.state.value, "preparing": head.preparing.document(node), "output": output}


class DrainRequest(BaseModel):
    """`deadline`: seconds that what runs there has; null for as long as it takes."""

    deadline: float | None = Field(default=DRAIN_SECONDS, ge=0, le=LONGEST_DRAIN, allow_inf_nan=False)


@router.post("/{node_id}/drain")
async def drain_node(node_id: str, head: HeadDep, request: DrainRequest | None = None) -> dict[str, Any]:
    """No new work; the node goes when what runs there has ended, or has been ended at the deadline."""
    node = await head.asked_drains.drain(_view(head, node_id), (request or DrainRequest()).deadline)
    head.autoscaler.wake()
    view = head.fleet.roster.get(node_id, steady_time())
    return node_detail(head, view) if view else {"id": node_id, "state": NodeState.GONE.value, "reason": node.reason}


@router.post("/{node_id}/undrain")
async def undrain_node(node_id: str, head: HeadDep) -> dict[str, Any]:
    """The node takes work again."""
    _view(head, node_id)
    await head.asked_drains.call_off(node_id)
    head.autoscaler.wake()
    return node_detail(head, _view(head, node_id))
