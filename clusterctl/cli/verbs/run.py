"""`clusterctl run`: a cluster for one job, from `up` to `down`."""

from __future__ import annotations

import contextlib
import inspect
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Optional

import typer
from typer.core import TyperCommand

from clusterctl.cli import output
from clusterctl.cli.call import Call, verb
from clusterctl.cli.verbs.submit import submit, wanted_of
from clusterctl.cli.verbs.up import Attempt, NotReady
from clusterctl.cli.waiting import INTERRUPTED, watch_job
from clusterctl.client.down.take_down import take_down
from clusterctl.client.head.api import Api, follow
from clusterctl.client.lock import changing
from clusterctl.client.registry import Cluster, Registry
from clusterctl.client.specfile import SpecFiles, read_places
from clusterctl.client.submit import submission
from clusterctl.client.submit.logs import FINAL
from clusterctl.client.submit.submission import Wanted
from clusterctl.client.up.placing import Placing
from clusterctl.client.up.timeline import Stopwatch
from clusterctl.core.errors import ClusterctlError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

PLACE = Path("clusterctl-runs")  # where the directories of runs are, unless --keep names one
UP_SECONDS = 1200.0
LOOK_SECONDS = 1.0  # where nothing changes for so long, the job is looked at anew
CANCEL_SECONDS = 30.0  # that a cancelled job gets to end before what there is of it is kept
_NOT_OF_A_JOB_ALONE = ("array", "after", "cron", "plan", "submission_id", "detach")


class RunCommand(TyperCommand):
    """Options may stand before SPEC and behind it, up to the program; and it is remembered whether that came after `--`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        first, spec, rest = self._split(ctx, args)
        second, start, program = self._split(ctx, rest)
        ctx.meta["clusterctl.command"] = second[-1:] == ["--"]
        if start is None or spec is None:
            return super().parse_args(ctx, args)  # which says what is missing
        options = [*first, *(second[:-1] if second[-1:] == ["--"] else second)]
        return super().parse_args(ctx, [*options, spec, start, *program])

    def _split(self, ctx: Any, args: list[str]) -> tuple[list[str], str | None, list[str]]:
        """(options, the first word that is none, what stands behind it)"""
        if not args:
            return [], None, []
        given, _, _ = self.make_parser(ctx).parse_args(list(args))
        behind: list[str] = list(given.get("program") or ())
        word = given.get("spec")
        if not isinstance(word, str):
            return args, None, []
        return args[: len(args) - 1 - len(behind)], word, behind


app = typer.Typer(rich_markup_mode=None, add_completion=False)


def _with_options_of_submit(function: Callable[..., Any]) -> Callable[..., Any]:
    """`**job` of `function` are the options of `submit` that say what the job is."""
    own = [p for p in inspect.signature(function, eval_str=True).parameters.values() if p.kind is not p.VAR_KEYWORD]
    shared = inspect.signature(verb(lambda call: None)).parameters
    of_job = [
        parameter
        for name, parameter in inspect.signature(submit).parameters.items()
        if name not in shared and name not in _NOT_OF_A_JOB_ALONE
    ]
    own.sort(key=lambda p: p.name not in ("call", "spec"))
    ordered = [*own[:2], *(p for p in of_job if p.name == "program"), *own[2:]]
    ordered += [p for p in of_job if p.name != "program"]
    function.__signature__ = inspect.Signature([p.replace(kind=p.KEYWORD_ONLY) for p in ordered])  # type: ignore[attr-defined]
    return function


@app.command(cls=RunCommand, context_settings={"allow_interspersed_args": False})
@verb
@_with_options_of_submit
def run(
    call: Call,
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="The cluster's file.")],
    keep: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            metavar="DIR",
            help="Where its log and record are kept [default: clusterctl-runs/CLUSTER-JOB here].",
            show_default=False,
        ),
    ] = None,
    artifacts: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="PATH", help="Fetch this file or directory from the job's nodes at the end; repeat."),
    ] = None,
    **job: Any,
) -> int:
    """Run one job on a cluster of its own, and take that down.

    Starts the cluster of SPEC, submits, shows the output, keeps log and record here, and takes the cluster down: also when the
    job failed, when the cluster did not come up, and after Ctrl-C. Should this command or this machine die on the way, the
    cluster ends itself by its `lifetime`, which is {after_last_job: 10m, idle: 30m} where SPEC has none. -c names the
    cluster in place of SPEC. Ends with the program's exit code.

    \b
    Examples:
      clusterctl run cluster.yaml job.py --epochs 3
      clusterctl run cluster.yaml --gpus 1 --nodes 4 --artifacts /data/out train.py
      clusterctl run cluster.yaml -c night-7 -- python -c "print(1)"
    """
    from clusterctl.client.run.keeping import make_directory
    from clusterctl.client.run.one_job import for_one_job, refuse_known, what_if_nobody_is_left
    from clusterctl.spec.lifetime import check_to_come
    from clusterctl.spec.support import check_supported

    files = read_places(spec)
    for source in files.each:
        check_supported(source.spec, source.located)
        check_to_come(source.spec, source.located, time.time())
    files, registry = for_one_job(files, call.cluster_name), Registry()
    refuse_known(registry, files.name)
    wanted = wanted_of(call, lambda: files.each[0].spec.ray is not None, **job)
    _check_program(wanted)
    if keep is None:
        PLACE.mkdir(exist_ok=True)
        (PLACE / ".gitignore").write_text("*\n")  # what is kept of one run does not travel with the next
    directory = make_directory(keep or PLACE / f"{files.name}-{wanted.submission_id}")
    call.say(what_if_nobody_is_left(files.each[0]))
    signal.signal(signal.SIGTERM, _interrupt)
    return OneJob(call, registry, files, wanted, directory, tuple(artifacts or ())).carry_out()


def _check_program(wanted: Wanted) -> None:
    """What `submit` would refuse is refused before anything costs money."""
    submission.check_text(wanted)
    if wanted.script is not None:
        submission.place_script(wanted.script, wanted.working_dir)
    elif wanted.working_dir is not None and not wanted.working_dir.is_dir():
        raise UsageError(f"--working-dir {wanted.working_dir}: there is no such directory")


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


@dataclass
class OneJob:
    """One `run`. Whatever happens in it, its cluster is taken down, unless that is interrupted."""

    call: Call
    registry: Registry
    files: SpecFiles
    wanted: Wanted
    directory: Path
    artifacts: tuple[str, ...]
    submitted: bool = False

    @property
    def name(self) -> str:
        """The cluster's."""
        return self.files.name

    def carry_out(self) -> int:
        """The exit code. Raises ClusterctlError."""
        try:
            return self._and_down()
        except KeyboardInterrupt:
            self.call.say(f"\ncluster {self.name} is left as it is: `clusterctl down {self.name}` ends it")
            return INTERRUPTED
        finally:
            with contextlib.suppress(OSError):  # it has something in it
                self.directory.rmdir()

    def _and_down(self) -> int:
        failure: ClusterctlError | None = None
        code = 1
        try:
            code = self._up_and_run()
        except KeyboardInterrupt:
            code = INTERRUPTED
            self.call.say("\ntaking the cluster down; Ctrl-C again leaves it as it is")
            self._cancel()
        except NotReady as error:
            failure = ClusterctlError(error.why)
        except ClusterctlError as error:
            failure = error
        if self.submitted and not self._kept() and code == 0:
            code = 1
        try:
            self._down()
        except ClusterctlError as error:
            raise ClusterctlError(f"{failure}\n{error}" if failure else str(error)) from error
        if failure is not None:
            raise failure
        return code

    def _up_and_run(self) -> int:
        began = time.monotonic()
        cluster = self._up()
        self._tell("up", cluster=cluster.name, uid=cluster.uid, place=cluster.place, seconds=_since(began))
        with Api.of(cluster) as api:
            self.submitted = True  # from here on there may be a job
            accepted = submission.submit(api, self.wanted, self.registry.home, self.call.say)
            self._tell("submitted", job=accepted["id"])
            self.call.say(f"job {accepted['id']} is on cluster {self.name}")
            return watch_job(self.call, api, accepted["id"], ranks=self.wanted.nodes or 1)

    def _up(self) -> Cluster:
        with changing(self.registry, self.name, "run"):
            placing = Placing(self.registry, self.files, "", self.call.say)
            attempt = Attempt(self.call, self.registry, placing, True, UP_SECONDS, Stopwatch(), None)
            started, _ = attempt.somewhere()
            return started.cluster

    def _cancel(self) -> None:
        """Tells the job to end, and waits for it: what it writes then is kept, too."""
        if not self.submitted:
            return
        try:
            with Api.of(self.registry.load(self.name)) as api:
                path = f"/api/v1/jobs/{self.wanted.submission_id}"
                api.post_once(f"{path}/cancel", {})
                deadline = time.monotonic() + CANCEL_SECONDS
                for job in follow(lambda: api.stream(f"{path}/watch", silence=LOOK_SECONDS)):
                    if job["state"] in FINAL or time.monotonic() > deadline:
                        return
        except ClusterctlError as error:
            self.call.say(f"the job could not be told to end: {error}")

    def _kept(self) -> bool:
        """Whether all could be kept that was asked for."""
        from clusterctl.client.run.keeping import keep

        job_id = self.wanted.submission_id
        try:
            troubles = keep(self.registry.load(self.name), job_id, self.directory, self.artifacts, self.call.say)
        except (ClusterctlError, OSError) as error:
            troubles = [str(error)]
            self.call.say(f"nothing could be kept of job {job_id}: {error}")
        self._tell("kept", directory=str(self.directory), troubles=troubles)
        if len(troubles) == 0:
            self.call.say(f"log and record of job {job_id} are in {self.directory}")
        return not troubles

    def _down(self) -> None:
        if self.name not in self.registry.names():
            return
        began = time.monotonic()
        try:
            with changing(self.registry, self.name, "run"):
                take_down(self.registry, self.registry.load(self.name), self.call.say)
        except ClusterctlError as error:
            again = f"`clusterctl down {self.name}` tries again"
            raise ClusterctlError(f"cluster {self.name!r} could not be taken down: {error}\n  {again}") from error
        self._tell("down", seconds=_since(began))
        self.call.say(f"cluster {self.name} is down after {_since(began):.1f} s: nothing of it is left")

    def _tell(self, event: str, **facts: Any) -> None:
        if self.call.json:
            output.write_json_line({"event": event, **facts})


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)
