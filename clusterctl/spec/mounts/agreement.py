"""What `mounts` of a spec contradict: each other, `files`, and the providers of the nodes that are to have them."""

from __future__ import annotations

from collections.abc import Iterator

from clusterctl.spec.faults import Finding, Path, shorten
from clusterctl.spec.mounts.mount import Mount
from clusterctl.spec.pool import Pool
from clusterctl.spec.providers.kind import Kind
from clusterctl.spec.providers.registry import KINDS
from clusterctl.spec.providers.storage import shared_storage_of
from clusterctl.spec.whole import Parts


def mounts_of(spec: Parts, pool: Pool | None) -> list[Mount]:
    """What nodes of the pool have, the cluster's first; the head's for None."""
    return [*spec.mounts, *(pool.mounts if pool else ())]


def check_mounts(spec: Parts) -> list[Finding]:
    """Each fault once, at the entry that is to change."""
    return [*_check_overlaps(spec), *_check_files(spec), *_check_providers(spec), *_check_volumes(spec)]


def _written(spec: Parts) -> Iterator[tuple[Path, Mount, list[Pool | None]]]:
    """Each entry with its path, and the pools that have it (None: the head's)."""
    for index, mount in enumerate(spec.mounts):
        yield ("mounts", index), mount, [None, *spec.pools]
    for number, pool in enumerate(spec.pools):
        for index, mount in enumerate(pool.mounts):
            yield ("pools", number, "mounts", index), mount, [pool]


def _check_overlaps(spec: Parts) -> Iterator[Finding]:
    """In the order of the text; those of two pools never meet."""
    seen: list[tuple[Mount, list[Pool | None]]] = []
    for path, mount, pools in _written(spec):
        for other, others in seen:
            if not any(pool in others for pool in pools):
                continue
            if mount.to == other.to:
                yield Finding((*path, "to"), f"{shorten(mount.to)} is given twice", "each place takes one mount")
            elif _is_below(mount.to, other.to) or _is_below(other.to, mount.to):
                inner, outer = sorted((mount.to, other.to), key=len, reverse=True)
                yield Finding(
                    (*path, "to"), f"{shorten(inner)} is inside of the mount {shorten(outer)}", "mount it beside it"
                )
        seen.append((mount, pools))


def _check_files(spec: Parts) -> Iterator[Finding]:
    for index, entry in enumerate(spec.files):
        for _, mount, _ in _written(spec):
            if entry.to == mount.to or _is_below(entry.to, mount.to):
                what = (
                    f"{shorten(entry.to)} is inside of the mount {shorten(mount.to)}: every node would write it there"
                )
                yield Finding(("files", index, "to"), what, "choose a path outside of it")
                break


def _is_below(path: str, above: str) -> bool:
    return path.startswith(above.rstrip("/") + "/")


def _check_providers(spec: Parts) -> Iterator[Finding]:
    for path, mount, pools in _written(spec):
        for kind in {spec.kind_of(pool).name: spec.kind_of(pool) for pool in pools}.values():
            if found := _obstacle(mount, kind):
                yield Finding((*path, "volume" if mount.volume else "from"), *found)
                break
    yield from _check_regions(spec)


def _obstacle(mount: Mount, kind: Kind) -> tuple[str, str] | None:
    """(why nodes of that provider cannot have it, what to write instead), None where they can."""
    if kind.machine == "pod":
        what = "pods get shared storage by claims, which the cluster's storage drivers serve"
        return what, f"write `provider: {{{kind.name}: {{volumes: [{{claim: NAME, to: {mount.to}}}]}}}}`"
    if mount.volume:
        return _no_volume(kind)
    scheme = mount.scheme
    assert scheme is not None
    if scheme.cloud and scheme.cloud != kind.name:
        whose = KINDS[scheme.cloud].title
        what = f"only machines of {whose} find {scheme.title} by such a name, and these nodes are of provider {kind.name!r}"
        return what, "where a VPN leads to it, write its address, as in nfs://10.0.0.5/export"
    if kind.machine == "container" and scheme.files is not None and scheme.title != _NFS_TITLE:
        return f"containers have no rights to mount {scheme.title}", _ON_THE_MACHINE.format(kind.name)
    if kind.machine == "container" and mount.is_bucket:
        return f"containers have neither /dev/fuse nor the rights to show {scheme.title}", _ON_THE_MACHINE.format(
            kind.name
        )
    return None


_NFS_TITLE = "an NFS server"
_ON_THE_MACHINE = (
    "mount it on the engine's machine, and write that directory under `provider: {{{}: {{mounts: [...]}}}}`"
)


def _no_volume(kind: Kind) -> tuple[str, str] | None:
    if kind.machine == "host":
        what = "a directory of one host is not seen by the others, so there are no volumes of a cluster on hosts"
        return what, "export a directory by NFS, and write `from: nfs://HOST/DIRECTORY`"
    if kind.machine == "instance":
        example = shared_storage_of(kind.name)
        return f"clusterctl makes no volumes on {kind.title}", f"mount storage that is there, as in `from: {example}`"
    return None


def _check_regions(spec: Parts) -> Iterator[Finding]:
    """A file system whose name a region is part of needs one."""
    for path, mount, pools in _written(spec):
        scheme = mount.scheme
        if (
            scheme
            and scheme.cloud
            and "region" in scheme.keys
            and not any(region_for(spec, mount, pool) for pool in pools)
        ):
            yield Finding(
                (*path, "from"), f"{scheme.title} is found by its region, and none is written", "write `region`"
            )


def region_for(spec: Parts, mount: Mount, pool: Pool | None) -> str:
    """The region that the storage is taken to be in on nodes of the pool, "" where that means nothing to it."""
    scheme, cloud = mount.scheme, spec.kind_of(pool).cloud
    if mount.region or scheme is None or "region" not in scheme.keys or cloud is None:
        return mount.region
    own = scheme.cloud == spec.kind_of(pool).name or cloud.speaks_s3
    return str(spec.settings_of(pool).get("region") or "") if own else ""


def _check_volumes(spec: Parts) -> Iterator[Finding]:
    """One name is one volume: kept or not, and all of one provider."""
    first: dict[str, Mount] = {}
    kinds: dict[str, set[str]] = {}
    for path, mount, pools in _written(spec):
        if not mount.volume:
            continue
        if mount.keep != first.setdefault(mount.volume, mount).keep:
            yield Finding(
                (*path, "keep"), f"volume {mount.volume!r} is kept at one place and not at another", "write the same"
            )
        seen = kinds.setdefault(mount.volume, set())
        seen |= {spec.kind_of(pool).name for pool in pools}
        if len(seen) > 1:
            what = (
                f"volume {mount.volume!r} would be another one on each of {', '.join(sorted(seen))}: they share no disk"
            )
            yield Finding((*path, "volume"), what, "mount storage of the network by `from`, or write it into one pool")
