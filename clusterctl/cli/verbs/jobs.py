"""`clusterctl jobs` and `clusterctl job show|cancel|retry`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from clusterctl.cli import completing
from clusterctl.cli.call import Call, OfHistory, verb
from clusterctl.cli.render.jobs import render_job, render_jobs, render_ray_job
from clusterctl.cli.render.text import counts_text
from clusterctl.client.head.api import Api
from clusterctl.client.ray.own_jobs import elsewhere, own_job, own_jobs
from clusterctl.client.submit.job_list import list_jobs
from clusterctl.client.submit.naming import job_id
from clusterctl.core.errors import ClusterctlError, NotFound

JobId = Annotated[
    str,
    typer.Argument(
        metavar="JOB", help="Its id or the beginning of that, its name, or `last`.", autocompletion=completing.jobs
    ),
]
JobIds = Annotated[
    list[str],
    typer.Argument(
        metavar="JOB...", help="Ids or beginnings of such, names, or `last`.", autocompletion=completing.jobs
    ),
]
app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


@app.callback()
def main() -> None:
    """Show, cancel or retry jobs.

    A job is named by its id or the beginning of one, by its name (the newest of that name), as `last`, and a member of an
    array as ARRAY.INDEX.

    \b
    Examples:
      clusterctl job show j-abcd2345
      clusterctl job cancel train sweep.3
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
    array: Annotated[
        str, typer.Option(metavar="JOB", help="Only those of this array: its id or name.", show_default=False)
    ] = "",
    match: Annotated[
        str,
        typer.Option(metavar="WORDS", help="Only those with all these words in what is shown.", show_default=False),
    ] = "",
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many.")] = 100,
    history: OfHistory = "",
) -> None:
    """List jobs, newest first.

    Those that Ray has beside the queue's (`ray job submit`, programs that joined by themselves) come below, marked as Ray's.

    \b
    Examples:
      clusterctl jobs --state queued
      clusterctl jobs --match "train.py alice"
    """
    with call.api(history) as api:
        document = list_jobs(api, limit, state=state, array=array and job_id(api, array), match=match)
        if not history and call.cluster().engine == "ray" and not array:
            try:
                document["ray_jobs"] = own_jobs(api, state, match)[:limit]
            except ClusterctlError as error:
                call.say(f"Ray's own jobs are not shown: {error}")
    call.show(document, lambda d: render_jobs(d, time.time()))


@app.command("show")
@verb
def show(call: Call, job: JobId, history: OfHistory = "") -> None:
    """Show a job with its attempts.

    \b
    Example:
      clusterctl job show j-abcd2345 --json
    """
    with call.api(history) as api:
        document, render = _shown(api, job)
        call.show(document, lambda d: render(d, time.time()))


def _shown(api: Api, word: str) -> tuple[dict[str, Any], Callable[[dict[str, Any], float], str]]:
    """The document of a job, of an array, or of one of Ray's own, and what shows it."""
    found = job_id(api, word)
    try:
        return api.get(f"/api/v1/jobs/{found}"), render_job
    except NotFound as error:
        with contextlib.suppress(NotFound):
            return api.get(f"/api/v1/arrays/{found}"), lambda document, _: _told(document)
        return own_job(api, word, error), render_ray_job


@app.command("cancel")
@verb
def cancel(call: Call, jobs: JobIds) -> None:
    """End jobs: what runs is asked to end, then killed.

    \b
    Examples:
      clusterctl job cancel j-abcd2345
      clusterctl job cancel train last
    """
    _each(call, jobs, "cancel")


@app.command("retry")
@verb
def retry(call: Call, jobs: JobIds) -> None:
    """Run jobs that have ended once more.

    \b
    Example:
      clusterctl job retry j-abcd2345
    """
    _each(call, jobs, "retry")


def _each(call: Call, words: list[str], what: str) -> None:
    """One after the other; that one cannot be found keeps no other from it."""
    done: list[dict[str, Any]] = []
    failed: list[ClusterctlError] = []
    with call.api() as api:
        for word in words:
            try:
                done.append(_asked(api, word, what))
            except ClusterctlError as error:
                if len(words) == 1:
                    raise
                failed.append(error)
    document = done[0] if len(words) == 1 else {"jobs": done, "failed": [str(error) for error in failed]}
    call.show(document, lambda _: "\n".join(_told(one) for one in done))
    if failed:
        raise ClusterctlError("\n".join(str(error) for error in failed))


def _asked(api: Api, job: str, what: str) -> dict[str, Any]:
    try:
        return api.post(f"/api/v1/jobs/{job_id(api, job, to_end=what == 'cancel')}/{what}")
    except NotFound as error:
        raise elsewhere(own_job(api, job, error), what) from error


def _told(document: dict[str, Any]) -> str:
    if "counts" in document:
        return f"array {document['id']}: {counts_text(document['counts'])}"
    return f"job {document['id']}: {document['state']}"
