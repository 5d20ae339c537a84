"""`clusterctl nodes` and `clusterctl node show|drain`."""

from __future__ import annotations

import time
from typing import Annotated, Any, Optional

import typer

from clusterctl.cli.call import Call, verb
from clusterctl.cli.render.explain import failed_setup, render_story
from clusterctl.cli.render.mounts import render_mounts
from clusterctl.cli.render.status import render_node_list, render_nodes
from clusterctl.client.nodes.node_list import list_nodes

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
def nodes(
    call: Call,
    pool: Annotated[str, typer.Option(metavar="NAME", help="Only those of this pool.", show_default=False)] = "",
    state: Annotated[
        str,
        typer.Option(
            metavar="STATE", help="Only those in this state, or in one of several: failed,draining.", show_default=False
        ),
    ] = "",
    match: Annotated[
        str,
        typer.Option(metavar="WORDS", help="Only those with all these words in what is shown.", show_default=False),
    ] = "",
    limit: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, metavar="N", help="At most so many.", show_default=False),
    ] = None,
) -> None:
    """List nodes, with the reason for each.

    \b
    Examples:
      clusterctl nodes
      clusterctl nodes --pool gpu --state failed,quarantined
      clusterctl nodes --match "spot us-east-1a"
    """
    with call.api() as api:
        document = list_nodes(api, limit, pool=pool, state=state, match=match)
    call.show(document, lambda d: render_node_list(d, time.time()))


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
    """One node, what runs on it, its story, and the end of a setup that failed; `now` in unix seconds."""
    running = ", ".join(document.get("running") or []) or "nothing"
    parts = [render_nodes([document], now), f"runs: {running}", render_story(document.get("story") or [])]
    if mounts := document.get("mounts"):
        parts.insert(2, render_mounts(mounts))
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
