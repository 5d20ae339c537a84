"""What a node is told of its mounts, as plain data: how to have each, and by what to know it again (see `wire`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from clusterctl.spec.mounts.agreement import mounts_of, region_for
from clusterctl.spec.mounts.mount import Mount
from clusterctl.spec.pool import Pool
from clusterctl.spec.providers.storage import MIB, file_document
from clusterctl.spec.whole import Parts


@dataclass(frozen=True)
class VolumePlaces:
    """Directories of the machine whose processes the nodes are: of volumes that survive the cluster, and of those that go with
    it."""

    kept: str = ""
    own: str = ""


def mount_documents(spec: Parts, pool: Pool | None, places: VolumePlaces) -> list[dict[str, Any]]:
    """Of all that nodes of the pool have, in the order of the spec; the head's for None."""
    return [_document(spec, pool, mount, places) for mount in mounts_of(spec, pool)]


def _document(spec: Parts, pool: Pool | None, mount: Mount, places: VolumePlaces) -> dict[str, Any]:
    kind = spec.kind_of(pool)
    told = {
        "from": mount.source or f"volume {mount.volume}",
        "to": mount.to,
        "mode": mount.how,
        "below": kind.machine == "process",  # $CLUSTERCTL_MOUNTS
        "over": kind.machine == "instance",  # what is there may be hidden: the machine is the cluster's own
    }
    if kind.machine == "container":
        return {**told, "given": True}
    if mount.volume:
        return {**told, "directory": f"{places.kept if mount.keep else places.own}/{mount.volume}"}
    scheme, wanted = mount.scheme, mount.wanted(region_for(spec, mount, pool))
    assert scheme is not None
    if scheme.files is not None:
        return {**told, "file_system": file_document(scheme.files(wanted), mount.how == "read-only")}
    assert scheme.ways is not None
    ways = [
        {"program": way.program, "argv": list(way.argv), "env": dict(way.env), "dirty": way.dirty}
        for way in scheme.ways(wanted)
    ]
    return {**told, "ways": ways, "programs": scheme.programs, "room": wanted.cache // MIB}


def container_mounts(spec: Parts, pool: Pool | None) -> list[dict[str, Any]]:
    """What an engine of containers gives its containers: volumes, and file systems that it mounts itself."""
    found: list[dict[str, Any]] = []
    for mount in mounts_of(spec, pool):
        told: dict[str, Any] = {"from": mount.source, "to": mount.to, "read_only": mount.how == "read-only"}
        if mount.volume:
            found.append({**told, "volume": mount.volume, "keep": mount.keep})
        elif mount.scheme is not None and mount.scheme.files is not None:
            files = mount.scheme.files(mount.wanted(region_for(spec, mount, pool)))
            found.append({**told, "file_system": file_document(files, mount.how == "read-only")})
    return found
