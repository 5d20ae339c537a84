"""`clusterctl explain`."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from clusterctl.cli import completing
from clusterctl.cli.call import Call, verb
from clusterctl.cli.render.explain import render_explain
from clusterctl.client.head.api import Api
from clusterctl.client.submit.naming import job_id
from clusterctl.core.errors import NotFound


@verb
def explain(
    call: Call,
    subject: Annotated[
        str,
        typer.Argument(
            metavar="JOB|NODE",
            help="A job by its id, name or `last`; a node, or the cluster itself.",
            autocompletion=completing.jobs_and_nodes,
        ),
    ],
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
        try:
            found = api.get(f"/api/v1/explain/{subject}")
        except NotFound:
            job = job_id(api, subject)
            if job == subject:
                raise
            found = api.get(f"/api/v1/explain/{job}")
        document = {"place": cluster.place} | found
    call.show(document, lambda d: render_explain(d, time.time()))
