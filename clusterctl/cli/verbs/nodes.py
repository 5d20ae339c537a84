"""`clusterctl nodes` and `clusterctl node show|drain`."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from clusterctl.cli.call import Call, verb
from clusterctl.cli.render.explain import failed_setup, render_story
from clusterctl.cli.render.status import render_nodes

NodeId = Annotated[str, typer.Argument(metavar="ID", help="The node.")]
app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


@app.callback()
def main() -> None:
    """Show or drain one node.

    \b
    Example:
      clusterctl node drain gpu-3
    """


@verb
def nodes(call: Call) -> None:
    """List nodes, with the reason for each.

    \b
    Example:
      clusterctl nodes
    """
    with call.api() as api:
        call.show(api.get("/api/v1/nodes"), lambda d: render_nodes(d.get("nodes") or [], time.time()))


@app.command("show")
@verb
def show(call: Call, node: NodeId) -> None:
    """Show a node, what runs on it and its story.

    \b
    Example:
      clusterctl node show gpu-3
    """
    with call.api() as api:
        call.show(api.get(f"/api/v1/nodes/{node}"), lambda d: render_node(d, time.time()))


def render_node(document: dict[str, Any], now: float) -> str:
    running = ", ".join(document.get("running") or []) or "nothing"
    parts = [render_nodes([document], now), f"runs: {running}", render_story(document.get("story") or [])]
    if output := failed_setup(document):
        parts.append(f"what its setup printed last:\n{output}")
    return "\n\n".join(parts)


@app.command("drain")
@verb
def drain(call: Call, node: NodeId) -> None:
    """Let a node finish its work, then remove it.

    \b
    Example:
      clusterctl node drain gpu-3
    """
    with call.api() as api:
        call.show(api.post(f"/api/v1/nodes/{node}/drain"), lambda d: f"node {d['id']}: {d['state']}")
