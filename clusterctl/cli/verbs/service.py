"""`clusterctl service`."""

from __future__ import annotations

import contextlib
import threading
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from clusterctl.cli import completing, output
from clusterctl.cli.call import Call, verb
from clusterctl.cli.durations import duration
from clusterctl.cli.render.logs import json_of
from clusterctl.cli.render.services import render_service, render_services
from clusterctl.cli.verbs.submit import GpuType, InPool, Priority, SubmitCommand, User, wanted_of
from clusterctl.cli.waiting import INTERRUPTED
from clusterctl.client.head.api import Api, follow
from clusterctl.client.local_port import LocalPort
from clusterctl.client.registry import Registry
from clusterctl.client.services.asking import Serving, ask, follow_update
from clusterctl.client.services.reaching import EntryWays
from clusterctl.client.submit.logs import LogReader, Piece
from clusterctl.core.errors import NotFound, UsageError

Name = Annotated[str, typer.Argument(metavar="NAME", help="The service.", autocompletion=completing.services)]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Return once it is on the head's disk.")]
app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)
LAST_LINES = 15  # of a replica that failed


@app.callback()
def main() -> None:
    """Keep programs running behind one address, and update them.

    \b
    Example:
      clusterctl service run --name llm --health /health -- vllm serve MODEL --port {port}
    """


@app.command("run", cls=SubmitCommand, context_settings={"allow_interspersed_args": False})
@verb
def run(
    call: Call,
    program: Annotated[
        list[str], typer.Argument(metavar="PROGRAM", help="FILE.py and its arguments, or -- and a command.")
    ],
    name: Annotated[str, typer.Option(metavar="NAME", help="The service; of one that there is, a new version.")],
    port: Annotated[
        str,
        typer.Option(metavar="PORT", help="Where the program listens; auto: a free port, told by $PORT and {port}."),
    ] = "auto",
    replicas: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=0, metavar="N", help="How many run [default: as many as there are, or 1]."),
    ] = None,
    health: Annotated[
        str,
        typer.Option(
            metavar="/PATH",
            help="GET of it says 2xx once it is well [default: it takes connections].",
            show_default=False,
        ),
    ] = "",
    timeout: Annotated[
        str, typer.Option(metavar="TIME", help="A replica is to be well so long after its start.")
    ] = "10m",
    grace: Annotated[str, typer.Option(metavar="TIME", help="Open requests of one that leaves have so long.")] = "1m",
    no_surge: Annotated[
        bool,
        typer.Option("--no-surge", help="Where there is no room for both: an old replica leaves before each new one."),
    ] = False,
    env: Annotated[list[str], typer.Option(metavar="K=V", help="Set in its environment; repeat for more.")] = [],  # noqa: B006
    working_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Packed and unpacked where it runs [default: the current directory for a FILE.py in it, else nothing].",
        ),
    ] = None,
    cpus: Annotated[Optional[float], typer.Option(min=0, metavar="X", help="CPUs of each replica.")] = None,  # noqa: UP045
    gpus: Annotated[float, typer.Option(min=0, metavar="X", help="GPUs of each replica.", show_default=False)] = 0.0,
    gpu_type: GpuType = "",
    memory: Annotated[str, typer.Option(metavar="SIZE", help="Memory of each, as in 8GiB.", show_default=False)] = "",
    resource: Annotated[
        list[str], typer.Option(metavar="K=V", help="Amount of a custom resource of each; repeat for more.")
    ] = [],  # noqa: B006
    pool: InPool = "",
    priority: Priority = 0,
    user: User = "",
    detach: Detach = False,
) -> int:
    """Start a service, or a new version of it.

    Replicas of the new version start beside those that serve. Each that is well takes the place of an old one, which leaves
    once its open requests have ended. A version that ends, or is not well in time, is given up: the one before serves as
    before, and this ends with 1 and says why.

    \b
    Examples:
      clusterctl service run --name web --health /ready -- ./server --port {port}
      clusterctl service run --name llm --replicas 2 --gpus 1 --health /health \\
          -- vllm serve MODEL --port {port}
    """
    wanted = wanted_of(
        call,
        lambda: call.cluster().engine != "none",
        program=program,
        working_dir=working_dir,
        name="",
        env=env,
        nodes=None,
        cpus=cpus,
        gpus=gpus,
        gpu_type=gpu_type,
        memory=memory,
        resource=resource,
        pool=pool,
        priority=priority,
        user=user,
        max_retries=None,
        timeout="",
        engine=False,
    )
    serving = Serving(
        _port(port), replicas, health, duration("--timeout", timeout), duration("--grace", grace), not no_surge
    )
    with call.api() as api:
        document = ask(api, name, wanted, serving, Registry().home, call.say)
        return _update(call, api, document, detach)


def _update(call: Call, api: Api, document: dict[str, Any], detach: bool) -> int:
    """Follows what is wanted in `document` to its end."""
    if detach:
        call.show(document, lambda one: f"service {one['name']}: version {one['wanted']} is wanted")
        return 0
    name, version = document["name"], document["wanted"]
    try:
        now = follow_update(api, document, call.say)
    except KeyboardInterrupt:
        call.say(f"\ndetached: the update to version {version} goes on. `clusterctl service status {name}` shows it,")
        call.say(f"`clusterctl service rollback {name}` calls it off")
        return INTERRUPTED
    if now["version"] == version:
        call.show(now, lambda one: render_service(one, _here(call, one)))
        return 0
    _say_failure(call, api, now, version)
    if call.json:
        output.write_json(now)
    return 1


def _say_failure(call: Call, api: Api, now: dict[str, Any], version: int) -> None:
    given_up = now["given_up"]
    if not given_up or given_up["version"] != version:
        call.say(
            f"version {version} of service {now['name']} is not wanted any more: somebody asked for something else"
        )
        return
    if given_up["job"]:
        with contextlib.suppress(NotFound):
            _say_last_lines(call, api, given_up["job"])
    stays = f"version {now['version']} serves as before" if now["version"] else "nothing of it runs"
    output.say(
        f"version {version} of service {now['name']} was given up: {given_up['why']}. {stays[0].upper()}{stays[1:]}."
    )


def _say_last_lines(call: Call, api: Api, job: str) -> None:
    with closing(LogReader(api.clone(), job, tail=LAST_LINES).pieces(follow_on=False)) as pieces:
        text = b"".join(piece.data for piece in pieces if isinstance(piece, Piece)).decode(errors="backslashreplace")
    if text.strip():
        call.say(f"the last lines of {job}:")
        for line in text.rstrip("\n").split("\n"):
            call.say(f"  {line}")


def _port(text: str) -> int:
    if text == "auto":
        return 0
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise UsageError(f"--port {text!r}: write a port from 1 to 65535, or auto for a free one")
    return int(text)


def _here(call: Call, one: dict[str, Any]) -> str:
    if call.cluster().head_is_remote or not one["entry_port"]:
        return f"`clusterctl service forward {one['name']}` makes it a port of this machine"
    return f"http://127.0.0.1:{one['entry_port']}{one['path']}"


@app.command("list")
@verb
def list_(call: Call) -> None:
    """List services.

    \b
    Example:
      clusterctl service list
    """
    with call.api() as api:
        call.show(api.get("/api/v1/services"), render_services)


@app.command("status")
@verb
def status(call: Call, name: Name) -> None:
    """Show a service with its replicas, and how it is reached.

    \b
    Example:
      clusterctl service status llm
    """
    with call.api() as api:
        call.show(api.get(f"/api/v1/services/{name}"), lambda one: render_service(one, _here(call, one)))


@app.command("scale")
@verb
def scale(
    call: Call, name: Name, replicas: Annotated[int, typer.Argument(min=0, metavar="N", help="How many are to run.")]
) -> None:
    """Change how many replicas run. Those that leave end their open requests first.

    \b
    Example:
      clusterctl service scale llm 4
    """
    with call.api() as api:
        document = api.post(f"/api/v1/services/{name}/scale", {"replicas": replicas})
        call.show(document, lambda one: f"service {name}: {one['well']} well, {one['replicas']} are wanted")


@app.command("rollback")
@verb
def rollback(call: Call, name: Name, detach: Detach = False) -> int:
    """Go back to the version before; during an update, to the one that still serves.

    \b
    Example:
      clusterctl service rollback llm
    """
    with call.api() as api:
        return _update(call, api, api.post(f"/api/v1/services/{name}/rollback"), detach)


@app.command("stop")
@verb
def stop(call: Call, name: Name, detach: Detach = False) -> None:
    """End a service: no new requests, then its replicas. `service run` starts it again.

    \b
    Example:
      clusterctl service stop llm
    """
    with call.api() as api:
        document = api.post(f"/api/v1/services/{name}/stop")
        if not detach:
            with closing(follow(lambda: api.stream(f"/api/v1/services/{name}/watch"))) as documents:
                document = next((one for one in documents if not one["members"]), document)
        call.show(document, lambda one: f"service {name} is {one['state']}")


@app.command("token")
@verb
def token(
    call: Call,
    name: Name,
    new: Annotated[bool, typer.Option("--new", help="Another one; the one before ends.")] = False,
) -> None:
    """Print the token that lets callers of a service in.

    \b
    Example:
      curl -H "Authorization: Bearer $(clusterctl service token llm)" \\
          http://127.0.0.1:PORT/services/llm/
    """
    with call.api() as api:
        path = f"/api/v1/services/{name}/token"
        call.show(api.post(path) if new else api.get(path), lambda document: document["token"])


@app.command("forward")
@verb
def forward(
    call: Call,
    name: Name,
    port: Annotated[
        int, typer.Argument(min=0, max=65535, metavar="[PORT]", help="Of this machine [default: any].")
    ] = 0,
) -> None:
    """Make a service a port of this machine, at its root and without a token. Ends on Ctrl-C.

    \b
    Example:
      clusterctl service forward llm 8000
    """
    ways = EntryWays(call.cluster(), name, call.say)
    local = LocalPort(ways.dial, port)
    local.begin()
    document = {"service": name, "port": local.number, "url": f"http://127.0.0.1:{local.number}/"}
    with contextlib.closing(local):
        if call.json:
            output.write_json_line(document)
        else:
            output.write_line(f"{document['url']} -> service {name}")
        call.say("Ctrl-C ends this")
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


@app.command("logs")
@verb
def logs(
    call: Call,
    name: Name,
    follow_on: Annotated[bool, typer.Option("--follow", "-f", help="Go on, also with replicas that come.")] = False,
    tail: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Only the last N lines of each, at most 16 MiB.")
    ] = None,
) -> None:
    """Print what its replicas write, each line with its replica's name.

    Of replicas that have ended `clusterctl logs JOB` prints it.

    \b
    Example:
      clusterctl service logs llm -f --tail 20
    """
    with call.api() as api:
        many = _Logs(call, api, follow_on, tail)
        document = api.get(f"/api/v1/services/{name}")
        many.add(document)
        if follow_on:
            with (
                contextlib.suppress(KeyboardInterrupt),
                closing(follow(lambda: api.stream(f"/api/v1/services/{name}/watch"))) as documents,
            ):
                for now in documents:
                    many.add(now)
        many.join()


class _Logs:
    """The logs of several jobs at once, each read by a thread of its own."""

    def __init__(self, call: Call, api: Api, follow_on: bool, tail: int | None) -> None:
        self._call, self._api, self._follow_on, self._tail = call, api, follow_on, tail
        self._lock = threading.Lock()
        self._threads: dict[str, threading.Thread] = {}

    def add(self, document: dict[str, Any]) -> None:
        for job in [member["job"] for member in document["members"] if member["job"] not in self._threads]:
            self._threads[job] = threading.Thread(target=self._read, args=(job,), daemon=True)
            self._threads[job].start()

    def join(self) -> None:
        for thread in self._threads.values():
            thread.join()

    def _read(self, job: str) -> None:
        rest = b""
        with closing(LogReader(self._api.clone(), job, tail=self._tail).pieces(follow_on=self._follow_on)) as pieces:
            for piece in pieces:
                if isinstance(piece, Piece):
                    rest = self._show(job, piece, rest)
        if rest:
            self._write(job, [rest])

    def _show(self, job: str, piece: Piece, rest: bytes) -> bytes:
        if self._call.json:
            with self._lock:
                output.write_json_line({"job": job, **json_of(piece)})
            return b""
        *lines, rest = (rest + piece.data).split(b"\n")
        self._write(job, lines)
        return rest

    def _write(self, job: str, lines: list[bytes]) -> None:
        with self._lock:
            for line in lines:
                output.write_line(f"[{job}] {line.decode(errors='backslashreplace')}")
