"""`clusterctl submit`."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from clusterctl_providers.this_machine import user_name
from typer.core import TyperCommand

from clusterctl.cli.call import Call, verb
from clusterctl.cli.durations import duration
from clusterctl.cli.piped import FROM_INPUT, refuse_input, script_from_input
from clusterctl.cli.render.explain import render_submission
from clusterctl.cli.waiting import wait_for_array, wait_for_job
from clusterctl.client.registry import Registry
from clusterctl.client.submit import submission
from clusterctl.client.submit.submission import Wanted
from clusterctl.core.errors import UsageError

# options that `service run` has, too
GpuType = Annotated[str, typer.Option(metavar="NAME", help="GPU model, as in L4.", show_default=False)]
InPool = Annotated[str, typer.Option(metavar="P", help="Only on nodes of this pool.", show_default=False)]
Priority = Annotated[int, typer.Option(metavar="N", help="Higher starts first; of the same, who came first.")]
Requirements = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        metavar="FILE", help="Packages for this job alone, installed on its nodes beside theirs.", show_default=False
    ),
]
User = Annotated[str, typer.Option(metavar="NAME", help="On whose behalf [default: you].", show_default=False)]


class SubmitCommand(TyperCommand):
    """Remembers whether the program was written after `--`: then it is a command, even when it ends in .py."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = list(args)
        rest = super().parse_args(ctx, args)
        program = ctx.params.get("program") or []
        before = len(given) - len(program) - 1
        ctx.meta["clusterctl.command"] = bool(program) and before >= 0 and given[before] == "--"
        return rest


app = typer.Typer(rich_markup_mode=None, add_completion=False)
MAX_ARRAY = 100_000


@app.command(cls=SubmitCommand, context_settings={"allow_interspersed_args": False})
@verb
def submit(
    call: Call,
    program: Annotated[
        list[str],
        typer.Argument(metavar="PROGRAM", help="FILE.py (- : piped in) and its arguments, or -- and a command."),
    ],
    name: Annotated[str, typer.Option(metavar="TEXT", help="A name for people.", show_default=False)] = "",
    env: Annotated[list[str], typer.Option(metavar="K=V", help="Set in the job's environment; repeat for more.")] = [],  # noqa: B006
    working_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Packed and unpacked where the job runs [default: the current directory for a FILE.py in it, else nothing].",
        ),
    ] = None,
    nodes: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            min=1, metavar="N", help="Run once per node on N nodes, as a gang [default: a plain program on one]."
        ),
    ] = None,
    cpus: Annotated[Optional[float], typer.Option(min=0, metavar="X", help="CPUs per node.")] = None,  # noqa: UP045
    gpus: Annotated[float, typer.Option(min=0, metavar="X", help="GPUs per node.", show_default=False)] = 0.0,
    gpu_type: GpuType = "",
    memory: Annotated[str, typer.Option(metavar="SIZE", help="Memory per node, as in 8GiB.", show_default=False)] = "",
    resource: Annotated[
        list[str], typer.Option(metavar="K=V", help="Amount of a custom resource per node; repeat for more.")
    ] = [],  # noqa: B006
    pool: InPool = "",
    engine: Annotated[
        bool, typer.Option("--engine", help="Only on nodes that run the cluster's engine, for a program that calls it.")
    ] = False,
    priority: Priority = 0,
    user: User = "",
    max_retries: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Try again so often when it fails.")
    ] = None,
    timeout: Annotated[
        str, typer.Option(metavar="TIME", help="End it after so long, as in 2h.", show_default=False)
    ] = "",
    array: Annotated[
        str,
        typer.Option(
            metavar="RANGE[%LIMIT]", help="One job per index, as in 0-9, 1,5,7 or 0-99:2%4.", show_default=False
        ),
    ] = "",
    after: Annotated[
        list[str],
        typer.Option(
            metavar="JOB[:any|:ok]", help="Start when that job or array succeeded, or (:any) ended; repeat for more."
        ),
    ] = [],  # noqa: B006
    cron: Annotated[str, typer.Option(metavar="EXPR", hidden=True)] = "",
    requirements: Requirements = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only say where it would run and what that costs.")] = False,
    submission_id: Annotated[
        str,
        typer.Option(
            metavar="ID", help="The job's id: the same one with the same job is the same job.", show_default=False
        ),
    ] = "",
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once the job is on the head's disk.")] = False,
) -> int:
    """Run a Python file or a command on the cluster.

    Without --detach it shows the output and ends with the program's exit code (128+N for signal N). A FILE.py runs with
    the cluster's engine attached; without any flag that asks for resources it takes a slot on the head node.

    \b
    Examples:
      clusterctl submit job.py --epochs 3
      clusterctl submit --gpus 1 --nodes 4 train.py
      clusterctl submit -d -- python -c "print(1)"
      clusterctl submit --array 0-99%8 --after prepare sweep.py
    """
    if cron:
        raise UsageError("--cron is not in this version yet: leave it out")
    wanted = wanted_of(
        call,
        lambda: call.cluster().engine != "none",
        program=program,
        working_dir=working_dir,
        name=name,
        env=env,
        nodes=nodes,
        cpus=cpus,
        gpus=gpus,
        gpu_type=gpu_type,
        memory=memory,
        resource=resource,
        pool=pool,
        priority=priority,
        user=user,
        max_retries=max_retries,
        timeout=timeout,
        array=array,
        after=after,
        submission_id=submission_id,
        engine=engine,
        requirements=requirements,
    )
    return _plan(call, wanted) if plan else _run(call, wanted, detach)


def wanted_of(
    call: Call,
    has_engine: Callable[[], bool],
    *,
    program: list[str],
    working_dir: Path | None,
    name: str,
    env: list[str],
    nodes: int | None,
    cpus: float | None,
    gpus: float,
    gpu_type: str,
    memory: str,
    resource: list[str],
    pool: str,
    priority: int,
    user: str,
    max_retries: int | None,
    timeout: str,
    engine: bool,
    requirements: Path | None = None,
    array: str = "",
    after: Sequence[str] = (),
    submission_id: str = "",
) -> Wanted:
    """The job that the options of the command line ask for, which are as the user wrote them. `has_engine` says whether
    the cluster has one. Raises UsageError."""
    indices, limit = parse_array(array) if array else (None, None)
    assert call.context is not None
    is_file = not call.context.meta["clusterctl.command"]
    verb_name = call.context.command_path.removeprefix("clusterctl ")
    piped = is_file and program[0] == FROM_INPUT
    if is_file and not piped and not program[0].endswith(".py"):
        way = {"run": "run SPEC", "service run": "service run --name NAME"}.get(verb_name, verb_name)
        command = f"clusterctl {way} -- {' '.join(program)}"
        raise UsageError(f"{program[0]!r} is not a FILE.py: to run a command write `{command}`")
    if piped and working_dir is not None:
        raise UsageError("a program that is piped in has no directory: leave --working-dir out, or name a file of it")
    if not piped:
        refuse_input(f"clusterctl {verb_name}")
    script = script_from_input() if piped else Path(program[0]) if is_file else None
    return Wanted(
        argv=program[1:] if is_file else program,
        script=script,
        piped=piped,
        working_dir=working_dir,
        name=name,
        env=parse_env(env),
        nodes=nodes,
        cpus=cpus,
        gpus=gpus,
        gpu_type=gpu_type,
        memory=_size("--memory", memory) if memory else 0,
        resources=parse_resources(resource),
        pool=pool,
        priority=priority,
        user=user or user_name(),
        max_retries=max_retries,
        timeout=duration("--timeout", timeout, some=True) if timeout else None,
        array=indices,
        array_limit=limit,
        after=parse_after(list(after)),
        submission_id=submission_id or submission.mint_id(),
        engine=has_engine(),
        needs_engine=engine,
        requirements=_lines_of(requirements) if requirements else [],
    )


def _lines_of(file: Path) -> list[str]:
    from clusterctl.spec.requirements import read_requirements

    return read_requirements(file)


def _plan(call: Call, wanted: Wanted) -> int:
    with call.api() as api:
        call.show(submission.plan(api, wanted), lambda document: render_submission(document, time.time()))
    return 0


def _run(call: Call, wanted: Wanted, detach: bool) -> int:
    with call.api() as api:
        accepted = submission.submit(api, wanted, Registry().home, call.say)
        call.detail(f"job {accepted['id']} is on the head's disk")
        if detach:
            call.show(accepted, lambda document: str(document["id"]))
            return 0
        call.say(f"{'job' if wanted.array is None else 'array'} {accepted['id']}")
        if wanted.array is not None:
            return wait_for_array(call, api, accepted["id"])
        return wait_for_job(call, api, accepted["id"], ranks=wanted.nodes or 1)


def _size(option: str, text: str) -> int:
    """Bytes."""
    from clusterctl.spec.units import parse_size

    try:
        value = parse_size(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error
    if value <= 0:
        raise UsageError(f"{option}: {text!r} is not more than nothing")
    return value


def parse_env(items: list[str]) -> dict[str, str]:
    """{"K": "V"} of `K=V`; `K` alone takes the value that it has here."""
    env: dict[str, str] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not name or (not equals and name not in os.environ):
            raise UsageError(f"--env {item!r}: write K=V, or K for a variable that is set here")
        env[name] = value if equals else os.environ[name]
    return env


def parse_resources(items: list[str]) -> dict[str, float]:
    """{"NAME": amount} of `NAME=AMOUNT`; where a name comes twice, the last counts. Raises UsageError."""
    resources: dict[str, float] = {}
    for item in items:
        name, _, value = item.partition("=")
        try:
            amount = float(value)
        except ValueError:
            amount = -1.0
        if not name or not 0 <= amount < float("inf"):
            raise UsageError(f"--resource {item!r}: write NAME=AMOUNT, as in TPU=1")
        resources[name] = amount
    return resources


_AFTER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}(:(ok|any))?")


def parse_after(items: list[str]) -> list[str]:
    """The items as they are. Raises UsageError for one that is not ID, ID:ok or ID:any."""
    for item in items:
        if not _AFTER.fullmatch(item):
            raise UsageError(
                f"--after {item!r}: write ID or ID:ok for a job that must succeed, ID:any for one that must end"
            )
    return items


_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+)(?::([0-9]+))?)?")


def parse_array(text: str) -> tuple[list[int], int | None]:
    """Indices and limit of RANGE[%LIMIT]: "0-9" (both ends), "1,5,7", "0-99:2%4" (every second, four at a time)."""
    ranges, percent, limit = text.partition("%")
    wrong = UsageError(f"--array {text!r}: write it as 0-9, 1,5,7 or 0-99:2%4, with at most {MAX_ARRAY:,} indices")
    if percent and not (limit.isascii() and limit.isdigit() and int(limit) > 0):
        raise wrong
    indices: dict[int, None] = {}
    for part in ranges.split(","):
        match = _RANGE.fullmatch(part.strip())
        if not match:
            raise wrong
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if last < first or step < 1 or (last - first) // step >= MAX_ARRAY:
            raise wrong
        indices.update(dict.fromkeys(range(first, last + 1, step)))
    if len(indices) > MAX_ARRAY:
        raise wrong
    return list(indices), int(limit) if percent else None
