"""`clusterctl status`."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from clusterctl.cli import output
from clusterctl.cli.call import Call, verb
from clusterctl.cli.render.status import render_status
from clusterctl.client.head.api import Api, follow
from clusterctl.client.nodes.node_list import whole_status

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
    with Api.of(cluster) as api:
        if not watch:
            document = where | (whole_status(api) if call.json else api.get("/api/v1/status"))
            call.show(document, lambda d: render_status(d, time.time()))
            return
        for document in (where | seen for seen in follow(lambda: api.stream("/api/v1/status", watch=1))):
            if call.json:
                output.write_json_line(document)
                continue
            if output.wants_colour(sys.stdout):
                output.write(_CLEAR)
            output.write_line(render_status(document, time.time()) + "\n")
