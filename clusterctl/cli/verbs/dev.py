"""`clusterctl dev`."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Annotated, Optional

import typer
from clusterctl_providers.this_machine import user_name

from clusterctl.cli import completing, output
from clusterctl.cli.call import Call, verb
from clusterctl.cli.durations import duration
from clusterctl.cli.verbs.submit import GpuType
from clusterctl.cli.waiting import INTERRUPTED, Reasons
from clusterctl.client.dev.place import DevPlace, Facts, find, host_entry, ssh_argv
from clusterctl.client.local_port import LocalPort
from clusterctl.client.nodes.access import access, shell_code
from clusterctl.client.submit.submission import Wanted
from clusterctl.core.errors import ClusterctlError, UsageError
from clusterctl.provision.carried import Way


@verb
def dev(
    call: Call,
    name: Annotated[
        str,
        typer.Argument(
            metavar="[JOB|NODE]",
            help="One of before, to go there again.",
            show_default=False,
            autocompletion=completing.jobs_and_nodes,
        ),
    ] = "",
    cpus: Annotated[float, typer.Option(min=0, metavar="X", help="CPUs of the node that are held.")] = 1.0,
    gpus: Annotated[float, typer.Option(min=0, metavar="X", help="GPUs of it.", show_default=False)] = 0.0,
    gpu_type: GpuType = "",
    memory: Annotated[str, typer.Option(metavar="SIZE", help="Memory of it, as in 8GiB.", show_default=False)] = "",
    pool: Annotated[str, typer.Option(metavar="P", help="Only a node of this pool.", show_default=False)] = "",
    jupyter: Annotated[bool, typer.Option("--jupyter", help="Jupyter there, at a port here.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="Jupyter's port here; 0 is any.")] = 8888,
    ssh_config: Annotated[
        bool, typer.Option("--ssh-config", help="Print an entry for ssh_config (VS Code Remote, scp) instead.")
    ] = False,
    idle: Annotated[str, typer.Option(metavar="TIME", help="Let go when nobody was connected for so long.")] = "30m",
    pipe: Annotated[Optional[str], typer.Option(metavar="JOB", hidden=True)] = None,  # noqa: UP045
) -> int:
    """Open a shell, Jupyter or VS Code on a node bought for it.

    The node is bought by a job of its own, which holds what is asked of it, and let go when the shell or Jupyter has ended, or
    when nobody was connected for --idle. `jobs` lists it, `job cancel` ends it.

    \b
    Examples:
      clusterctl dev --gpus 1
      clusterctl dev --cpus 8 --jupyter
      clusterctl dev --ssh-config --pool gpu >> ~/.ssh/config
      clusterctl dev gpu-1
    """
    if pipe is not None:
        return _pipe(find(call.cluster(), pipe), call)
    if jupyter and ssh_config:
        raise UsageError("--jupyter or --ssh-config: one at a time")
    if name:
        place = find(call.cluster(), name)
    else:
        wanted = Wanted([], name=f"dev of {user_name()}", cpus=cpus, gpus=gpus, gpu_type=gpu_type, pool=pool,
                        memory=_size(memory), user=user_name(), engine=call.cluster().engine != "none")  # fmt: skip
        with call.api() as api:
            place = DevPlace.begin(
                call.cluster(), api, wanted, idle=duration("--idle", idle, some=True), jupyter=jupyter
            )
        call.say(f"job {place.job} holds the node; `clusterctl job cancel {place.job}` ends it at any time")
    facts = _ready(call, place)
    if ssh_config:
        return _print_entry(call, place, facts, idle)
    return _jupyter(call, place, facts, port) if jupyter else _shell(call, place, facts)


def _size(text: str) -> int:
    from clusterctl.spec.units import parse_size

    try:
        return parse_size(text) if text else 0
    except ValueError as error:
        raise UsageError(f"--memory: {error}") from error


def _ready(call: Call, place: DevPlace) -> Facts:
    """Says meanwhile what is waited for. Ctrl-C, and a job that ends instead, leave nothing behind."""
    with call.api() as api:
        reasons = Reasons(call, api.clone(), place.job)
        reasons.start()
        try:
            return place.ready(api)
        except KeyboardInterrupt:
            _cancel(call, place)
            raise typer.Exit(INTERRUPTED) from None
        finally:
            reasons.stop()


def _cancel(call: Call, place: DevPlace) -> None:
    with call.api() as api:
        api.post_once(f"/api/v1/jobs/{place.job}/cancel", {})
    shutil.rmtree(place.directory, ignore_errors=True)
    call.say(f"\njob {place.job} is cancelled")


# ------------------------------------------------------------ a shell


def _shell(call: Call, place: DevPlace, facts: Facts) -> int:
    node = str(place.route(call.say).node["id"])
    try:
        code = _by_ssh(call, place, facts, node) if not facts.no_ssh else _by_its_provider(call, place, facts, node)
    finally:
        _leave(call, place, node)
    return code


def _by_ssh(call: Call, place: DevPlace, facts: Facts, node: str) -> int:
    call.say(f"a shell on {node}; the node is let go when it ends")
    return _run(ssh_argv(place, facts), node)


def _by_its_provider(call: Call, place: DevPlace, facts: Facts, node: str) -> int:
    """Being connected holds the node meanwhile."""
    argv = access(place.cluster, place.route(call.say).node).shell_argv()
    call.say(f"a shell on {node}, by the way of `clusterctl ssh` ({facts.no_ssh}); the node is let go when it ends")
    with closing(place.dial(facts, "hold")):
        return _run(argv, node)


def _run(argv: list[str], node: str) -> int:
    try:
        return shell_code(subprocess.run(argv).returncode)
    except OSError as error:
        raise ClusterctlError(f"{argv[0]}, which opens the shell on {node}, cannot be run here: {error}") from error


def _leave(call: Call, place: DevPlace, node: str) -> None:
    """What fails here is the job's end already, or mended by its `--idle`."""
    try:
        others = place.leave()
    except (ClusterctlError, OSError, EOFError):
        call.say(f"{node} is let go when job {place.job} ends")
        return
    stays = f"{others} more connection{'s' if others > 1 else ''} to it: it stays until they have ended"
    call.say(f"{node}: {stays}" if others else f"{node} is let go")


# ------------------------------------------------------------ Jupyter


def _jupyter(call: Call, place: DevPlace, facts: Facts, port: int) -> int:
    node = str(place.route(call.say).node["id"])
    if facts.jupyter != "":
        _leave(call, place, node)
        said = facts.jupyter or "this one was started without: end it and ask for another with --jupyter"
        raise ClusterctlError(
            f"no Jupyter on {node}: {said}. With an engine it comes by `engine: {{ray: {{packages: [jupyterlab]}}}}`, else "
            "by `setup` or the image"
        )
    local = LocalPort(lambda: _quietly(place, facts, "jupyter"), port, "choose another with --port, or 0 for any")
    local.begin()
    url = f"http://127.0.0.1:{local.number}/?token={place.token(facts)}"
    if call.json:
        output.write_json_line({"url": url, "node": node, "job": place.job})
    else:
        output.write_line(url)
    call.say(f"Jupyter on {node}; Ctrl-C ends it and lets the node go")
    with contextlib.suppress(KeyboardInterrupt), closing(place.dial(facts, "hold")) as way:
        while way.recv(4096):
            pass  # until its program ends
        call.say(f"Jupyter on {node} has ended")
        return 0
    local.close()
    call.say("")
    with call.api() as api:  # whoever has a page open keeps it from nothing
        api.post_once(f"/api/v1/jobs/{place.job}/cancel", {})
    shutil.rmtree(place.directory, ignore_errors=True)
    call.say(f"{node} is let go")
    return 0


def _quietly(place: DevPlace, facts: Facts, service: str) -> Way | None:
    try:
        return place.dial(facts, service)
    except (ClusterctlError, OSError, EOFError):
        return None  # the browser says so


# ------------------------------------------------------------ for other programs


def _print_entry(call: Call, place: DevPlace, facts: Facts, idle: str) -> int:
    node = str(place.route(call.say).node["id"])
    if facts.no_ssh:
        _leave(call, place, node)
        raise ClusterctlError(
            f"no SSH on {node}: {facts.no_ssh}. Put openssh-server into its image or `setup`; VS Code gets into a container by "
            "'Dev Containers: Attach to Running Container' as well, and into any node by `code tunnel` run there"
        )
    host, entry = f"{place.cluster.name}-{place.job}", host_entry(place, facts)
    call.show({"job": place.job, "node": node, "host": host, "entry": entry}, lambda document: str(document["entry"]))
    call.say(f"`ssh {host}` and VS Code's Remote-SSH get to {node} by it; let go when nobody was connected for {idle}")
    return 0


def _pipe(place: DevPlace, call: Call) -> int:
    """Standard input and output as a connection to its SSH server: what a ProxyCommand is."""
    with call.api() as api, closing(place.dial(place.ready(api), "sshd")) as way:
        threading.Thread(target=_send, args=(way,), daemon=True).start()
        for piece in _received(way):
            while piece:
                piece = piece[os.write(1, piece) :]
    return 0


def _received(way: Way) -> Iterator[bytes]:
    with contextlib.suppress(OSError, EOFError):
        while piece := way.recv(1 << 16):
            yield piece


def _send(way: Way) -> None:
    with contextlib.suppress(OSError, EOFError):
        while piece := os.read(0, 1 << 16):
            way.sendall(piece)
        way.shutdown_write()
