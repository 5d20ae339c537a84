"""`clusterctl explain`."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from clusterctl.cli.call import Call, verb
from clusterctl.cli.render.explain import render_explain
from clusterctl.client.head.api import Api


@verb
def explain(
    call: Call, subject: Annotated[str, typer.Argument(metavar="ID", help="A job, a node, or the cluster itself.")]
) -> None:
    """Say why a job waits, or why a node is as it is.

    Of the cluster itself, by its name: when it ends itself, and what happened to it.

    \b
    Examples:
      clusterctl explain j-abcd2345
      clusterctl explain demo
    """
    cluster = call.cluster()
    with Api.of(cluster) as api:
        document = {"place": cluster.place} | api.get(f"/api/v1/explain/{subject}")
    call.show(document, lambda d: render_explain(d, time.time()))
