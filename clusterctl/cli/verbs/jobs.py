"""`clusterctl jobs` and `clusterctl job show|cancel|retry`."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from clusterctl.cli.call import Call, verb
from clusterctl.cli.render.jobs import render_job, render_jobs, render_ray_job
from clusterctl.cli.render.text import counts_text
from clusterctl.client.head.api import Api
from clusterctl.client.ray.own_jobs import elsewhere, own_job, own_jobs
from clusterctl.client.submit.job_list import list_jobs
from clusterctl.core.errors import ClusterctlError, NotFound

JobId = Annotated[str, typer.Argument(metavar="ID", help="The job.")]
app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


@app.callback()
def main() -> None:
    """Show, cancel or retry one job.

    \b
    Example:
      clusterctl job show j-abcd2345
    """


@verb
def jobs(
    call: Call,
    state: Annotated[
        str,
        typer.Option(
            metavar="STATE", help="Only queued, running, succeeded, failed or cancelled ones.", show_default=False
        ),
    ] = "",
    array: Annotated[str, typer.Option(metavar="ID", help="Only those of this array.", show_default=False)] = "",
    match: Annotated[
        str,
        typer.Option(metavar="WORDS", help="Only those with all these words in what is shown.", show_default=False),
    ] = "",
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many.")] = 100,
) -> None:
    """List jobs, newest first.

    Those that Ray has beside the queue's (`ray job submit`, programs that joined by themselves) come below, marked as Ray's.

    \b
    Examples:
      clusterctl jobs --state queued
      clusterctl jobs --match "train.py alice"
    """
    with call.api() as api:
        document = list_jobs(api, limit, state=state, array=array, match=match)
        if call.cluster().engine == "ray" and not array:
            try:
                document["ray_jobs"] = own_jobs(api, state, match)[:limit]
            except ClusterctlError as error:
                call.say(f"Ray's own jobs are not shown: {error}")
    call.show(document, lambda d: render_jobs(d, time.time()))


@app.command("show")
@verb
def show(call: Call, job: JobId) -> None:
    """Show a job with its attempts.

    \b
    Example:
      clusterctl job show j-abcd2345 --json
    """
    with call.api() as api:
        try:
            document, render = api.get(f"/api/v1/jobs/{job}"), render_job
        except NotFound as error:
            document, render = own_job(api, job, error), render_ray_job
        call.show(document, lambda d: render(d, time.time()))


@app.command("cancel")
@verb
def cancel(call: Call, job: JobId) -> None:
    """End a job: what runs is asked to end, then killed.

    \b
    Example:
      clusterctl job cancel j-abcd2345
    """
    with call.api() as api:
        call.show(_asked(api, job, "cancel"), _told)


@app.command("retry")
@verb
def retry(call: Call, job: JobId) -> None:
    """Run a job that has ended once more.

    \b
    Example:
      clusterctl job retry j-abcd2345
    """
    with call.api() as api:
        call.show(_asked(api, job, "retry"), _told)


def _asked(api: Api, job: str, what: str) -> dict[str, Any]:
    try:
        return api.post(f"/api/v1/jobs/{job}/{what}")
    except NotFound as error:
        raise elsewhere(own_job(api, job, error), what) from error


def _told(document: dict[str, Any]) -> str:
    if "counts" in document:
        return f"array {document['id']}: {counts_text(document['counts'])}"
    return f"job {document['id']}: {document['state']}"
