"""`clusterctl monitoring`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clusterctl.cli import output
from clusterctl.cli.call import Call, verb
from clusterctl.cli.durations import duration
from clusterctl.core.errors import ClusterctlError, UsageError

if TYPE_CHECKING:
    from clusterctl.client.monitoring.gateway import Gateway
    from clusterctl.client.monitoring.place import Place


ENDED_BY_SIGNAL = 128 + signal.SIGTERM

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


@app.callback()
def main() -> None:
    """Watch a cluster with Prometheus and Grafana.

    \b
    Examples:
      clusterctl monitoring up
      clusterctl monitoring files
    """


@app.command("up")
@verb
def up(
    call: Call,
    prometheus: Annotated[
        str, typer.Option(metavar="PATH", help="Which program [default: the one on the PATH].", show_default=False)
    ] = "",
    port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, metavar="N", help="Its local port [default: that of the last time].", show_default=False
        ),
    ] = 0,
    every: Annotated[str, typer.Option(metavar="DURATION", help="Between two looks at each figure.")] = "15s",
    alone: Annotated[
        bool, typer.Option("--no-prometheus", help="Only keep the way open for one's own, as `files` sets it up.")
    ] = False,
) -> int:
    """Run a Prometheus on the cluster's figures.

    It listens on 127.0.0.1 alone and keeps 15 days or 2 GB of figures, also for the next time. Ends on Ctrl-C.

    \b
    Examples:
      clusterctl monitoring up
      clusterctl monitoring up --prometheus ~/prometheus-3.5.0.linux-amd64/prometheus --port 9090
      clusterctl monitoring up --no-prometheus
    """
    from clusterctl.client.monitoring.place import Place
    from clusterctl.client.monitoring.prometheus import found

    if alone and (prometheus or port):
        raise UsageError("--no-prometheus runs none: --prometheus and --port are of one that is run")
    seconds = duration("--every", every, some=True)
    place = Place(call.cluster())
    program = "" if alone else found(prometheus)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ENDED_BY_SIGNAL))  # in order: the Prometheus goes, too
    with contextlib.suppress(KeyboardInterrupt), _only_one(place):
        return _keep_open(call, place) if alone else _run(call, place, program, port, seconds)
    return 0


def _run(call: Call, place: Place, program: str, wanted: int, seconds: float) -> int:
    from clusterctl.client.monitoring.files import TOKEN, for_prometheus
    from clusterctl.client.monitoring.place import PROMETHEUS
    from clusterctl.client.monitoring.prometheus import ended_text, running
    from clusterctl.client.monitoring.writing import write_all

    port, directory = wanted or place.port(PROMETHEUS), place.prometheus
    with _gateway(call, place, fixed=False) as gateway:
        texts = for_prometheus(place.cluster.name, gateway.port, place.token(), seconds)
        write_all(directory, texts, TOKEN, force=True)
        with running(program, directory, port) as process:
            place.port(PROMETHEUS, port)  # one that could not be had is not kept for the next time
            url = f"http://127.0.0.1:{port}/"
            if call.json:
                output.write_json_line({"cluster": place.cluster.name, "url": url, "directory": str(directory)})
            else:
                output.write_line(url)
            call.say("others on this machine can open it, too; Ctrl-C ends it")
            process.wait()
            raise ClusterctlError(ended_text(process, directory))


def _keep_open(call: Call, place: Place) -> int:
    with _gateway(call, place, fixed=True) as gateway:
        address = f"127.0.0.1:{gateway.port}"
        if call.json:
            output.write_json_line({"cluster": place.cluster.name, "address": address})
        else:
            output.write_line(address)
        call.say("for the files of `clusterctl monitoring files`; Ctrl-C ends this")
        threading.Event().wait()
    return 0


@contextlib.contextmanager
def _gateway(call: Call, place: Place, *, fixed: bool) -> Iterator[Gateway]:
    """`fixed`: on the port that files name. Else on that one where it is free, or on any."""
    from clusterctl.client.monitoring.gateway import Figures, Gateway
    from clusterctl.client.monitoring.place import GATEWAY

    figures = Figures(place.cluster, call.say, call.detail)
    otherwise = "choose another with `clusterctl monitoring files --port N`, and use the files that it writes"
    try:
        gateway = Gateway(figures, place.token(), place.port(GATEWAY), otherwise)
    except ClusterctlError:
        if fixed:
            raise
        gateway = Gateway(figures, place.token(), 0, otherwise)
    gateway.begin()
    try:
        yield gateway
    finally:
        gateway.close()


@contextlib.contextmanager
def _only_one(place: Place) -> Iterator[None]:
    """Raises ClusterctlError, which names the other one, where one runs for this cluster."""
    from clusterctl_runtime.files.lock import LockHeld, take

    try:
        lock = take(place.directory / "lock", json.dumps({"pid": os.getpid()}))
    except LockHeld as held:
        other = ""
        with contextlib.suppress(ValueError, KeyError, TypeError):
            other = f" (process {json.loads(held.note)['pid']})"
        raise ClusterctlError(
            f"`clusterctl monitoring up` runs already for cluster {place.cluster.name!r}{other}: use that one, or end it"
        ) from None
    with lock:
        yield


@app.command("files")
@verb
def files(
    call: Call,
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to write.")] = Path("monitoring"),
    port: Annotated[
        int,
        typer.Option(
            min=0,
            max=65535,
            metavar="N",
            help="At which the figures are had here [default: that of the last time].",
            show_default=False,
        ),
    ] = 0,
    url: Annotated[
        str, typer.Option("--prometheus-url", metavar="URL", help="Where Grafana finds Prometheus.")
    ] = "http://127.0.0.1:9090",
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that differ.")] = False,
) -> None:
    """Write what one's own Prometheus and Grafana need.

    The head listens on its own machine's loopback, so that the figures are had at a port of this machine, which
    `clusterctl monitoring up --no-prometheus` keeps open. The only secret is in DIR/token.

    \b
    Examples:
      clusterctl monitoring files
      clusterctl monitoring files /srv/monitoring --prometheus-url http://prometheus:9090
    """
    from clusterctl.client.monitoring.files import TOKEN, for_ones_own
    from clusterctl.client.monitoring.place import GATEWAY, Place
    from clusterctl.client.monitoring.writing import write_all

    if not re.fullmatch(r"https?://[^\s/]\S*", url):
        raise UsageError(f"--prometheus-url {url!r}: it is no URL: write one as in http://127.0.0.1:9090")
    place = Place(call.cluster())
    gateway = place.port(GATEWAY, port)
    texts = for_ones_own(place.cluster.name, gateway, place.token(), directory, url)
    written = write_all(directory, texts, TOKEN, force=force)
    document = {
        "cluster": place.cluster.name,
        "address": f"127.0.0.1:{gateway}",
        "files": [str(directory / name) for name in texts],
        "written": [str(path) for path in written],
    }
    call.show(document, _render_files)


def _render_files(document: dict[str, Any]) -> str:
    lines = [f"{'wrote' if path in document['written'] else 'as before'} {path}" for path in document["files"]]
    return "\n".join(
        [
            *lines,
            f"they find the figures at {document['address']}, which is open while this runs:",
            f"  clusterctl monitoring up --no-prometheus -c {document['cluster']}",
        ]
    )
