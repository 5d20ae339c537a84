"""`clusterctl status`."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer

from clusterctl.cli import output
from clusterctl.cli.call import Call, verb
from clusterctl.cli.render.status import render_status
from clusterctl.client.ended import STATE, sentence
from clusterctl.client.head.api import Api, follow
from clusterctl.client.nodes.node_list import whole_status
from clusterctl.client.registry import Cluster
from clusterctl.core.errors import ClusterctlError

_CLEAR = "\x1b[H\x1b[2J"


@verb
def status(
    call: Call,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it again whenever it changes, until Ctrl-C.")
    ] = False,
) -> None:
    """Show head, nodes, pools, demand, jobs and cost.

    Of more than 30 nodes those are shown that need a look first; `clusterctl nodes` lists all, and --json has them all, but
    for --watch.

    \b
    Examples:
      clusterctl status --watch
      clusterctl status --json
    """
    cluster = call.cluster()
    where = {"place": cluster.place}
    if not watch:
        call.show(where | _document(cluster, whole=call.json), _render)
        return
    with Api.of(cluster) as api:
        for document in (where | seen for seen in follow(lambda: api.stream("/api/v1/status", watch=1))):
            if call.json:
                output.write_json_line(document)
                continue
            if output.wants_colour(sys.stdout):
                output.write(_CLEAR)
            output.write_line(render_status(document, time.time()) + "\n")


def _document(cluster: Cluster, *, whole: bool) -> dict[str, Any]:
    """The head's own, or that of a cluster that has ended itself, of which nothing runs."""
    try:
        with Api.of(cluster) as api:
            return whole_status(api) if whole else api.get("/api/v1/status")
    except ClusterctlError:
        from clusterctl.client.down.asking import ask

        note = ask(cluster)
        if not note:
            raise
        return {
            "cluster": cluster.name,
            "uid": cluster.uid,
            "state": STATE,
            "ended": note,
            "reason": sentence(cluster, note),
            "pools": [],
            "nodes": [],
            "demand": [],
            "jobs": note["jobs"],
            "cost": {"per_hour": 0.0, "total": note["cost"]},
        }


def _render(document: dict[str, Any]) -> str:
    return document["reason"] if document["state"] == STATE else render_status(document, time.time())
