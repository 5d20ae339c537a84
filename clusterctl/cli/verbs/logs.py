"""`clusterctl logs`."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated, Optional

import typer

from clusterctl.cli import completing
from clusterctl.cli.call import Call, OfHistory, verb
from clusterctl.cli.render.logs import LogPrinter
from clusterctl.client.head.api import Api
from clusterctl.client.ray.own_jobs import elsewhere, own_job
from clusterctl.client.submit.logs import End, LogReader
from clusterctl.client.submit.naming import job_id
from clusterctl.core.errors import NotFound


@verb
def logs(
    call: Call,
    job: Annotated[
        str,
        typer.Argument(
            metavar="JOB|NODE",
            help="A job by its id, name or `last`; or a node.",
            autocompletion=completing.jobs_and_nodes,
        ),
    ],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    rank: Annotated[Optional[int], typer.Option(min=0, metavar="N", help="Only this rank of a gang.")] = None,  # noqa: UP045
    attempt: Annotated[int | None, typer.Option(min=1, metavar="N", help="This attempt [default: the last].")] = None,
    tail: Annotated[int | None, typer.Option(min=0, metavar="N", help="Only the last N lines, at most 16 MiB.")] = None,
    history: OfHistory = "",
) -> None:
    """Print what a job wrote, or the setup of a node.

    \b
    Example:
      clusterctl logs j-abcd2345 -f
    """
    with call.api(history) as api:
        try:
            found = api.get(f"/api/v1/jobs/{job_id(api, job)}")
        except NotFound:
            if history:
                raise
            _show_setup(call, api, job, tail)
            return
        ranks = int(found.get("nodes") or 1)
        printer = LogPrinter(ranks=rank is None and ranks > 1, as_json=call.json)
        end: End | None = None
        reader = LogReader(api, str(found["id"]), ranks=ranks, rank=rank, attempt=attempt, tail=tail)
        with closing(reader.pieces(follow_on=follow)) as pieces:
            for piece in pieces:
                if isinstance(piece, End):
                    end = piece
                else:
                    printer.show(piece)
        printer.end(end)


def _show_setup(call: Call, api: Api, node: str, tail: int | None) -> None:
    """What the last setup on a node printed; raises NotFound where there is no such node either."""
    try:
        document = api.get(f"/api/v1/nodes/{node}/setup")
    except NotFound as error:
        neither = NotFound(f"no job or node {node!r}: `clusterctl jobs` and `clusterctl nodes` list them")
        neither.__cause__ = error
        raise elsewhere(own_job(api, node, neither), "logs") from error
    lines = document["output"].removesuffix("\n").split("\n") if document["output"] else []
    shown = lines if tail is None else lines[len(lines) - min(tail, len(lines)) :]
    call.show(document, lambda _: "\n".join(shown) or f"no setup was run on {node} yet")
