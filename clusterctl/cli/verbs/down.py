"""`clusterctl down`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Optional

import typer

from clusterctl.cli import completing
from clusterctl.cli.call import Call, verb
from clusterctl.client.down.take_down import take_down
from clusterctl.client.ended import said_at
from clusterctl.client.head.api import Api
from clusterctl.client.lock import changing
from clusterctl.client.project import refuse_to_end_others
from clusterctl.client.registry import NAME, Cluster, Registry
from clusterctl.client.specfile import read_places
from clusterctl.core.errors import ClusterctlError, Refused


@verb
def down(
    call: Call,
    which: Annotated[
        str,
        typer.Argument(
            metavar="NAME|SPEC", help="The cluster or its file.", show_default=False, autocompletion=completing.clusters
        ),
    ] = "",
    yes: Annotated[
        bool,
        typer.Option("--yes", "-y", help="Do not ask when there are jobs (needed without a terminal)."),
    ] = False,
    abandon: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--abandon", metavar="HOST", help="A host that is gone for good: forget what is on it (ssh)."),
    ] = None,
) -> None:
    """End every node of a cluster and forget it.

    Returns when the provider lists nothing of it any more. Works also when the head is dead.

    \b
    Examples:
      clusterctl down demo
      clusterctl down lab --abandon node07.lab
    """
    began = time.monotonic()
    registry = Registry()
    cluster = find(registry, which or call.cluster_name)
    if not yes:
        _confirm(cluster)
    from clusterctl.client.down.asking import ask

    if note := ask(cluster):  # its head is not waited for
        call.say(said_at(cluster, note))
    with changing(registry, cluster.name, "down"):
        take_down(registry, registry.load(cluster.name), call.say, abandon or ())
    document = {"cluster": cluster.name, "uid": cluster.uid, "seconds": round(time.monotonic() - began, 3), "left": 0}
    call.show(document, lambda d: f"cluster {d['cluster']} is down after {d['seconds']:.1f} s: nothing of it is left")


def find(registry: Registry, which: str) -> Cluster:
    """A cluster by its name, by the file that describes it, or the one that `-c` and the environment mean. Raises
    Refused for the file of another project."""
    looks_like_file = which and (not NAME.fullmatch(which) or (Path(which).is_file() and which not in registry.names()))
    if not looks_like_file:
        return registry.resolve(which)
    cluster = registry.load(read_places(Path(which)).name)
    refuse_to_end_others(registry, cluster, Path(which))
    return cluster


def _confirm(cluster: Cluster) -> None:
    """Asks on a terminal when work would be lost; elsewhere nobody can answer, and it is refused."""
    try:
        with Api.of(cluster) as api:
            jobs = api.get("/api/v1/status").get("jobs") or {}
    except ClusterctlError:
        return
    busy = ", ".join(f"{jobs[state]} {state}" for state in ("running", "queued") if jobs.get(state))
    if not busy:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Refused(
            f"cluster {cluster.name} has jobs ({busy}), which would be lost: `clusterctl down {cluster.name} -y` ends it"
        )
    if not typer.confirm(f"Cluster {cluster.name} has jobs ({busy}). End it?", err=True):
        raise ClusterctlError("nothing was changed")
