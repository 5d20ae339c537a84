"""`clusterctl logs`."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated, Any, Optional

import typer

from clusterctl.cli import completing, output
from clusterctl.cli.call import Call, OfHistory, verb
from clusterctl.cli.render.escape import one_line
from clusterctl.cli.render.logs import LogPrinter
from clusterctl.cli.verbs.jobs import All, Name, State
from clusterctl.client.head.api import Api
from clusterctl.client.ray.own_jobs import elsewhere, own_job
from clusterctl.client.submit.choosing import Which, chosen
from clusterctl.client.submit.logs import End, LogReader
from clusterctl.client.submit.naming import job_id
from clusterctl.core.errors import NotFound, UsageError

STATES = ("queued", "running", "succeeded", "failed", "cancelled")


@verb
def logs(
    call: Call,
    jobs: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(
            metavar="[JOB|NODE]...",
            help="Jobs by id, name or `last`; or a node.",
            autocompletion=completing.jobs_and_nodes,
            show_default=False,
        ),
    ] = None,
    all: All = False,
    state: State = "",
    name: Name = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    rank: Annotated[Optional[int], typer.Option(min=0, metavar="N", help="Only this rank of a gang.")] = None,  # noqa: UP045
    attempt: Annotated[int | None, typer.Option(min=1, metavar="N", help="This attempt [default: the last].")] = None,
    tail: Annotated[int | None, typer.Option(min=0, metavar="N", help="Only the last N lines, at most 16 MiB.")] = None,
    history: OfHistory = "",
) -> None:
    """Print what jobs wrote, or the setup of a node.

    Of several, one after the other, each below a line with its id.

    \b
    Examples:
      clusterctl logs j-abcd2345 -f
      clusterctl logs --state failed --name sweep --tail 5
    """
    which = Which(jobs or [], all, state, name)
    which.check()
    shown: dict[str, Any] = {"rank": rank, "attempt": attempt, "tail": tail, "setups": not history}
    with call.api(history) as api:
        if not which.is_choice and len(which.words) == 1:
            _show(call, api, which.words[0], follow=follow, **shown)
            return
        if follow:
            raise UsageError("-f follows one job: name one")
        words = [str(job["id"]) for job in chosen(api, which, STATES)] if which.is_choice else which.words
        for word in words:
            _show(call, api, word, below_its_name=True, **shown)


def _show(
    call: Call,
    api: Api,
    word: str,
    *,
    rank: int | None,
    attempt: int | None,
    tail: int | None,
    setups: bool,
    follow: bool = False,
    below_its_name: bool = False,
) -> None:
    try:
        found = api.get(f"/api/v1/jobs/{job_id(api, word)}")
    except NotFound:
        if not setups:
            raise
        _show_setup(call, api, word, tail)
        return
    if below_its_name:
        _show_name(call, found)
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


def _show_name(call: Call, job: dict[str, Any]) -> None:
    if call.json:
        output.write_json_line({"job": job["id"], "name": job["name"], "state": job["state"]})
    else:
        output.write_line(f"==> job {job['id']} {one_line(job['name'])}: {job['state']} <==")


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
