"""Whose a cluster is: that of the directory whose spec made it. A file of the same name elsewhere is another project's."""

from __future__ import annotations

from pathlib import Path

from clusterctl.client.begun import is_begun
from clusterctl.client.registry import Cluster, Registry
from clusterctl.client.specfile import read_places
from clusterctl.core.errors import ClusterctlError, Refused


def refuse_other_project(registry: Registry, name: str, spec: Path) -> None:
    """Raises Refused where the cluster `name` is that of a spec in another directory than `spec`."""
    other = other_project(registry, name, spec)
    if other is not None:
        raise Refused(
            f"a cluster {name!r} is known here, and it is that of {other}: this spec ({spec}) would change it. Give this one "
            f"another name (`cluster: ...`); or, if both are one project, say `clusterctl up {spec} --move-spec` once"
        )


def refuse_to_end_others(registry: Registry, cluster: Cluster, spec: Path) -> None:
    """The same for `down` with a spec."""
    other = other_project(registry, cluster.name, spec)
    if other is not None:
        raise Refused(
            f"the cluster {cluster.name!r} that is known here is not that of {spec}, but of {other}: `clusterctl down "
            f"{cluster.name}` ends it all the same"
        )


def other_project(registry: Registry, name: str, spec: Path) -> Path | None:
    """The spec of the cluster `name`, where that is in another directory than `spec` and still describes it: one that is gone,
    or has another name by now, was moved."""
    if name not in registry.names():
        return None
    cluster = registry.load(name)
    if not cluster.spec_path or not is_begun(cluster):
        return None
    known = Path(cluster.spec_path)
    if known.resolve().parent == spec.resolve().parent or not known.is_file():
        return None
    return known if _may_describe(known, name) else None


def _may_describe(path: Path, name: str) -> bool:
    """One that is being edited, and wrong at this moment, is still what it was."""
    try:
        return read_places(path).name == name
    except ClusterctlError:
        return True
