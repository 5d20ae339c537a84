"""Names that exist, for shells that complete words: clusters from this machine, jobs, nodes and services from the head.

A shell waits for it with every TAB: who does not answer at once is passed over, and a failure completes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import typer

from clusterctl.core.errors import ClusterctlError

VARIABLE = "_CLUSTERCTL_COMPLETE"  # set by the shell's function when it asks
PROGRAMS = ("clusterctl", "cctl")
SHELLS = ("bash", "zsh", "fish")
MOST = 200  # names from the head


def is_asked() -> bool:
    """Whether this process is to complete a word."""
    return VARIABLE in os.environ


def script(shell: str) -> str:
    """What that shell runs to complete words of ours."""
    from typer.completion import get_completion_script  # pyright: ignore[reportPrivateImportUsage]

    return "\n".join(get_completion_script(prog_name=name, complete_var=VARIABLE, shell=shell) for name in PROGRAMS)


def clusters(incomplete: str) -> list[str]:
    """Those known here."""
    from clusterctl.client.registry import Registry

    return _beginning(incomplete, Registry().names)


def jobs(context: typer.Context, incomplete: str) -> list[str]:
    """Ids and names of the newest."""
    return _beginning(incomplete, lambda: _jobs(context))


def nodes(context: typer.Context, incomplete: str) -> list[str]:
    """Their ids."""
    return _beginning(incomplete, lambda: _ids(context, "/api/v1/nodes", "nodes", "id"))


def jobs_and_nodes(context: typer.Context, incomplete: str) -> list[str]:
    """What may be explained, or has logs."""
    return [*nodes(context, incomplete), *jobs(context, incomplete)]


def services(context: typer.Context, incomplete: str) -> list[str]:
    """Their names."""
    return _beginning(incomplete, lambda: _ids(context, "/api/v1/services", "services", "name"))


def _beginning(incomplete: str, names: Callable[[], Any]) -> list[str]:
    try:
        return [name for name in dict.fromkeys(names()) if name.startswith(incomplete)]
    except (ClusterctlError, OSError):
        return []


def _jobs(context: typer.Context) -> Iterator[str]:
    for job in _asked(context, "/api/v1/jobs", limit=MOST)["jobs"]:
        yield from (job["id"], job.get("name") or job["id"])


def _ids(context: typer.Context, path: str, what: str, key: str) -> Iterator[str]:
    return (str(one[key]) for one in _asked(context, path, limit=MOST)[what])


def _asked(context: typer.Context, path: str, **query: Any) -> dict[str, Any]:
    from clusterctl.client.head.api import Api
    from clusterctl.client.registry import Registry

    given = (found.params.get("cluster_name") for found in (context, context.parent, context.find_root()) if found)
    with Api.of(Registry().resolve(next((name for name in given if name), ""))) as api:
        return api.get(path, **query)
