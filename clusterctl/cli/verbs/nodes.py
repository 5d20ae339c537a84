"""`clusterctl nodes` and `clusterctl node show|drain|undrain`."""

from __future__ import annotations

import time
from typing import Annotated, Any, Optional

import typer

from clusterctl.cli import completing
from clusterctl.cli.call import Call, verb
from clusterctl.cli.render.draining import render_drain, render_leaving, what_engine_runs
from clusterctl.cli.render.explain import failed_setup, render_story
from clusterctl.cli.render.mounts import render_mounts
from clusterctl.cli.render.status import render_node_list, render_nodes
from clusterctl.client.nodes.leaving import follow_leave, last_event
from clusterctl.client.nodes.node_list import list_nodes
from clusterctl.core.errors import UsageError
from clusterctl.spec.units import parse_duration

NodeId = Annotated[str, typer.Argument(metavar="ID", help="The node.", autocompletion=completing.nodes)]
app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


@app.callback()
def main() -> None:
    """Show or drain one node, or call its drain off.

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
    running = ", ".join([*(document.get("running") or []), *what_engine_runs(document)]) or "nothing"
    parts = [render_nodes([document], now), f"runs: {running}", render_story(document.get("story") or [])]
    if mounts := document.get("mounts"):
        parts.insert(2, render_mounts(mounts))
    if output := failed_setup(document):
        parts.append(f"what its setup printed last:\n{output}")
    return "\n\n".join(parts)


@app.command("drain")
@verb
def drain(
    call: Call,
    node: NodeId,
    deadline: Annotated[
        str,
        typer.Option(metavar="DURATION", help="How long what runs there may go on; `none`: until it ends by itself."),
    ] = "10m",
    wait: Annotated[bool, typer.Option("--wait", help="Return when the node is gone.")] = False,
) -> None:
    """Take a node out: no new work from now on, and at the deadline what still runs there is ended.

    Work of Ray learns of it from Ray: Train saves and goes on elsewhere, Serve moves its replicas. Jobs that are
    ended at the deadline are tried again on other nodes. Said again, it sets another deadline.

    \b
    Examples:
      clusterctl node drain gpu-3
      clusterctl node drain gpu-3 --deadline 2h --wait
    """
    with call.api() as api:
        since = last_event(api) if wait else 0
        document = api.post(f"/api/v1/nodes/{node}/drain", {"deadline": _seconds(deadline)})
        if not wait:
            call.show(document, lambda d: render_drain(d, time.time()))
            return
        call.say(render_drain(document, time.time()))
        how = follow_leave(api, node, since, lambda d: call.say(render_leaving(d, time.time())))
    call.show({"id": node, "state": how}, lambda d: f"node {d['id']} is {d['state']}")


def _seconds(deadline: str) -> float | None:
    if deadline == "none":
        return None
    try:
        return parse_duration(deadline)
    except ValueError as error:
        raise UsageError(f"--deadline: {error}, or none") from error


@app.command("undrain")
@verb
def undrain(call: Call, node: NodeId) -> None:
    """Call off `node drain`: the node takes work again.

    Ray knows no way back from a drain. It starts nothing new there until what it still runs there has ended, and
    is then started again.

    \b
    Example:
      clusterctl node undrain gpu-3
    """
    with call.api() as api:
        call.show(api.post(f"/api/v1/nodes/{node}/undrain"), lambda d: f"node {d['id']}: {d['state']}")
