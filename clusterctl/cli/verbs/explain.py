"""`clusterctl explain`."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from clusterctl.cli.call import Call, verb
from clusterctl.cli.render.explain import render_explain


@verb
def explain(call: Call, subject: Annotated[str, typer.Argument(metavar="ID", help="A job or a node.")]) -> None:
    """Say why a job waits, or why a node is as it is.

    \b
    Example:
      clusterctl explain j-abcd2345
    """
    with call.api() as api:
        call.show(api.get(f"/api/v1/explain/{subject}"), lambda d: render_explain(d, time.time()))
