"""`clusterctl status`."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from clusterctl.cli import output
from clusterctl.cli.call import Call, verb
from clusterctl.cli.render.status import render_status
from clusterctl.client.head.api import follow

_CLEAR = "\x1b[H\x1b[2J"


@verb
def status(
    call: Call,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it again whenever it changes, until Ctrl-C.")
    ] = False,
) -> None:
    """Show head, nodes, pools, demand, jobs and cost.

    \b
    Example:
      clusterctl status --watch
    """
    with call.api() as api:
        if not watch:
            call.show(api.get("/api/v1/status"), lambda document: render_status(document, time.time()))
            return
        for document in follow(lambda: api.stream("/api/v1/status", watch=1)):
            if call.json:
                output.write_json_line(document)
                continue
            if output.wants_colour(sys.stdout):
                output.write(_CLEAR)
            output.write_line(render_status(document, time.time()) + "\n")
