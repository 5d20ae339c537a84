"""`clusterctl jobs` and `clusterctl job show|cancel|retry`."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Optional

import typer

from clusterctl.cli import completing
from clusterctl.cli.call import Call, OfHistory, verb
from clusterctl.cli.render.jobs import render_job, render_jobs, render_ray_job
from clusterctl.cli.render.text import counts_text, plural
from clusterctl.client.head.api import Api
from clusterctl.client.ray.own_jobs import elsewhere, own_job, own_jobs
from clusterctl.client.submit.choosing import Which, chosen
from clusterctl.client.submit.job_list import list_jobs
from clusterctl.client.submit.naming import job_id
from clusterctl.core.errors import ClusterctlError, NotFound, Refused

JobId = Annotated[
    str,
    typer.Argument(
        metavar="JOB", help="Its id or the beginning of that, its name, or `last`.", autocompletion=completing.jobs
    ),
]
JobIds = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Argument(
        metavar="[JOB]...",
        help="Ids or beginnings of such, names, or `last`.",
        autocompletion=completing.jobs,
        show_default=False,
    ),
]
All = Annotated[bool, typer.Option("--all", help="All of them, where no --state or --name says which.")]
State = Annotated[str, typer.Option(metavar="STATE", help="Those in this state.", show_default=False)]
Name = Annotated[str, typer.Option(metavar="NAME", help="Those with exactly this name.", show_default=False)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask (needed without a terminal).")]
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
def cancel(
    call: Call, jobs: JobIds = None, all: All = False, state: State = "", name: Name = "", yes: Yes = False
) -> None:
    """End jobs: what runs is asked to end, then killed.

    With --all, --state or --name, those that are queued or run are meant, and it asks first.

    \b
    Examples:
      clusterctl job cancel j-abcd2345
      clusterctl job cancel train last
      clusterctl job cancel --all -y
      clusterctl job cancel --state queued --name sweep
    """
    _each(call, Which(jobs or [], all, state, name), "cancel", ("running", "queued"), yes)


@app.command("retry")
@verb
def retry(
    call: Call, jobs: JobIds = None, all: All = False, state: State = "", name: Name = "", yes: Yes = False
) -> None:
    """Run jobs that have ended once more.

    With --all, --state or --name, those that failed or were cancelled are meant, and it asks first.

    \b
    Examples:
      clusterctl job retry j-abcd2345
      clusterctl job retry --state failed -y
    """
    _each(call, Which(jobs or [], all, state, name), "retry", ("failed", "cancelled"), yes)


def _each(call: Call, which: Which, what: str, fitting: Sequence[str], yes: bool) -> None:
    """One after the other; that one cannot be found keeps no other from it."""
    which.check()
    done: list[dict[str, Any]] = []
    failed: list[ClusterctlError] = []
    with call.api() as api:
        words = _chosen(call, api, which, what, fitting, yes) if which.is_choice else which.words
        alone = len(words) == 1 and not which.is_choice
        for word in words:
            try:
                done.append(_asked(api, word, what))
            except ClusterctlError as error:
                if alone:
                    raise
                failed.append(error)
    document = done[0] if alone else {"jobs": done, "failed": [str(error) for error in failed]}
    call.show(document, lambda _: "\n".join(map(_told, done)) or f"nothing to {what}: no job fits")
    if failed:
        raise ClusterctlError("\n".join(str(error) for error in failed))


def _chosen(call: Call, api: Api, which: Which, what: str, fitting: Sequence[str], yes: bool) -> list[str]:
    """Ids; asks on a terminal, elsewhere nobody can answer."""
    jobs = chosen(api, which, fitting)
    if not jobs or yes:
        return [str(job["id"]) for job in jobs]
    counts = Counter(str(job["state"]) for job in jobs)
    text = f"{plural(len(jobs), 'job')} ({counts_text(dict(counts))})"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Refused(f"{what} means {text} here: say -y, since there is no terminal to ask on")
    if not typer.confirm(f"{what.capitalize()} {text}?", err=True):
        raise ClusterctlError("nothing was changed")
    return [str(job["id"]) for job in jobs]


def _asked(api: Api, job: str, what: str) -> dict[str, Any]:
    try:
        return api.post(f"/api/v1/jobs/{job_id(api, job, to_end=what == 'cancel')}/{what}")
    except NotFound as error:
        raise elsewhere(own_job(api, job, error), what) from error


def _told(document: dict[str, Any]) -> str:
    if "counts" in document:
        return f"array {document['id']}: {counts_text(document['counts'])}"
    return f"job {document['id']}: {document['state']}"
