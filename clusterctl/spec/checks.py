"""Contradictions between the parts of a spec that each are right alone: the parts in, Findings out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from clusterctl.spec.faults import Finding, Path, did_you_mean, flow, shorten
from clusterctl.spec.mounts.agreement import check_mounts
from clusterctl.spec.network import has_engine
from clusterctl.spec.parts import Ray
from clusterctl.spec.pool import Pool
from clusterctl.spec.providers.kind import MARKETS, Kind
from clusterctl.spec.providers.registry import KINDS
from clusterctl.spec.requirements import RAY_ITSELF, wrong_requirement
from clusterctl.spec.whole import Parts

_VERSION = re.compile(r"(\d+)\.(\d+)(\.\d+)?([a-z0-9.]*)")
OLDEST_RAY = (2, 56)  # the first with token authentication everywhere
RAY_EXTRAS = (
    "adag", "air", "all", "cgraph", "client", "cpp", "data", "default", "llm", "observability", "rllib", "serve",
    "serve-async-inference", "serve-grpc", "train", "tune",
)  # fmt: skip


def check_cluster(spec: Parts) -> list[Finding]:
    """What contradicts itself between the parts of a spec."""
    return [
        *_check_pool_names(spec),
        *_check_pool_providers(spec),
        *_check_region(spec),
        *_check_zones(spec),
        *_check_foreign_keys(spec),
        *_check_opening(spec),
        *_check_auth(spec),
        *_check_machines(spec),
        *_check_reservations(spec),
        *_check_markets(spec),
        *_check_limits(spec),
        *_check_ray(spec),
        *_check_whole_amounts(spec),
        *_check_files(spec),
        *check_mounts(spec),
    ]


def _check_pool_names(spec: Parts) -> Iterator[Finding]:
    if not spec.pools:
        yield Finding(("pools",), "'pools' is empty", "write `pools: [{name: cpu, max: 3}]`")
    first: dict[str, int] = {}
    for index, pool in enumerate(spec.pools):
        path = ("pools", index, "name")
        if pool.name == "head":
            yield Finding(
                path,
                "a pool cannot be named 'head': the head node has that name",
                "settings of the head go under `head:`",
            )
        elif pool.name in first:
            yield Finding(path, f"two pools are named {pool.name!r}: this and number {first[pool.name] + 1}")
        first.setdefault(pool.name, index)


def _check_pool_providers(spec: Parts) -> Iterator[Finding]:
    """Each provider has one set of settings, wherever it is named."""
    for index, pool in enumerate(spec.pools):
        given = pool.provider_settings
        if given is None or given == spec.settings_of(pool):
            continue
        own = spec.kind_of(pool) is spec.kind
        whose = "the cluster's own" if own else "another pool's, too"
        yield Finding(
            ("pools", index, "provider"),
            f"{pool.provider_name!r} is {whose}, with other settings: a cluster uses each provider with one set of them",
            f"write `provider: {pool.provider_name}` here, or make another cluster for this pool",
        )


def _check_region(spec: Parts) -> Iterator[Finding]:
    named: set[str] = set()
    for path, kind, settings in _used(spec):
        if kind.name not in named and kind.cloud is not None and not settings.get("region"):
            example = f"write `provider: {flow(kind.example)}`"
            yield Finding(path, f"provider {kind.name!r} needs a region", example)
        named.add(kind.name)


def _used(spec: Parts) -> Iterator[tuple[tuple[str | int, ...], Kind, Mapping[str, Any]]]:
    """Each place where a provider is named, the cluster's first."""
    yield ("provider",), spec.kind, spec.provider_settings
    for index, pool in enumerate(spec.pools):
        if pool.provider_name:
            yield ("pools", index, "provider"), spec.kind_of(pool), spec.settings_of(pool)


def _region_of(spec: Parts, pool: Pool | None) -> str:
    """That zones tell by their names, "" where they do not."""
    cloud = spec.kind_of(pool).cloud
    tells = cloud is not None and cloud.zones_tell_region
    return str(spec.settings_of(pool).get("region") or "") if tells else ""


def _check_zones(spec: Parts) -> Iterator[Finding]:
    """Zones must be such as the cloud has, in the region, and the head where the pools are."""
    yield from _check_zone_names(spec)
    for index, pool in enumerate(spec.pools):
        cloud, region = spec.kind_of(pool).cloud, _region_of(spec, pool)
        for position, zone in enumerate(pool.zones):
            if cloud is not None and not zone.startswith(region):
                path = ("pools", index, "zones", position)
                yield Finding(
                    path,
                    f"zone {shorten(zone)} is not in region {shorten(region)}",
                    f"{region} has zones such as {cloud.zone_in(region)}",
                )
    region = _region_of(spec, None)
    pools = [(index, pool) for index, pool in enumerate(spec.pools) if spec.kind_of(pool) is spec.kind]
    if not spec.head.zone:
        return
    if not spec.head.zone.startswith(region):
        yield Finding(
            ("head", "zone"),
            f"the head's zone {shorten(spec.head.zone)} is not in region {shorten(region)}, where the pools are",
        )
    elif not region and pools and all(pool.zones and spec.head.zone not in pool.zones for _, pool in pools):
        zones = sorted({zone for _, pool in pools for zone in pool.zones})
        yield Finding(
            ("head", "zone"),
            f"the head's zone {shorten(spec.head.zone)} is in none of the pools' zones ({', '.join(zones)})",
        )


def _check_zone_names(spec: Parts) -> Iterator[Finding]:
    """Where a zone's name is a cloud's own, and does not begin with the region's."""
    written: list[tuple[Path, str, Kind]] = [(("head", "zone"), spec.head.zone, spec.kind)] if spec.head.zone else []
    for index, pool in enumerate(spec.pools):
        kind = spec.kind_of(pool)
        written += [(("pools", index, "zones", number), zone, kind) for number, zone in enumerate(pool.zones)]
    for path, zone, kind in written:
        form = kind.cloud.zones if kind.cloud is not None else None
        if form is not None and not form.fits(zone):
            yield Finding(path, f"{shorten(zone)} is no zone of {kind.title}", f'as in "{form.example}"')


def _check_foreign_keys(spec: Parts) -> Iterator[Finding]:
    for index, pool in enumerate(spec.pools):
        kind = spec.kind_of(pool)
        for key in type(pool).model_fields:
            if key in foreign_to(kind) and getattr(pool, key) not in (None, "", 0, [], {}, ["on-demand"]):
                yield _foreign(("pools", index, key), kind)
    for key in type(spec.head).model_fields:
        if key in foreign_to(spec.kind) and getattr(spec.head, key):
            yield _foreign(("head", key), spec.kind)


def foreign_to(kind: Kind) -> frozenset[str]:
    """Keys of a pool or of the head that mean nothing to it: also those that are another's alone."""
    return kind.foreign.union(*(other.own for other in KINDS.values() if other is not kind))


def _foreign(path: tuple[str | int, ...], kind: Kind) -> Finding:
    key = str(path[-1])
    return Finding(path, f"{key!r} means nothing to provider {kind.name!r}", _instead(kind, key), True)


def _check_opening(spec: Parts) -> Iterator[Finding]:
    """The head's port and credentials are for pools of other providers, and for a head on a machine of its own."""
    others = {spec.kind_of(pool).name for pool in spec.pools} - {spec.kind.name}
    if spec.head.port_open_to and spec.head_place == "pod":
        what = "the head is a pod, and nothing outside of its Kubernetes dials it"
        yield Finding(("head", "public_port"), what, "remove it", True)
    elif spec.head.port_open_to and spec.head_place != "instance":
        what = "the head runs on a machine of yours, whose firewall nothing here opens"
        yield Finding(("head", "public_port"), what, "open it there", True)
    for name in spec.head.credentials:
        path = ("head", "credentials", name)
        if spec.head_place != "instance":
            what = "the head runs on a machine of yours, and uses the credentials that are there"
            yield Finding(path, what, "remove it", True)
        elif name not in others:
            yield Finding(path, f"no pool here is of provider {name!r}, besides the cluster's own", "remove it", True)
        elif not (cloud := KINDS[name].cloud) or not cloud.key_file:
            yield Finding(path, f"provider {name!r} takes no file with credentials", "remove it", True)


def _check_auth(spec: Parts) -> Iterator[Finding]:
    machines = {kind.machine for _, kind, _ in _used(spec)}
    if machines <= {"process", "container", "pod"} and spec.auth.model_dump(exclude_defaults=True):
        yield Finding(("auth",), f"'auth' means nothing to provider {spec.provider_name!r}", "remove it", True)
    if spec.kind.cloud is not None and spec.auth.user.lower() in spec.kind.cloud.refused_users:
        what = f"{spec.kind.title} makes no user {shorten(spec.auth.user)} on a machine"
        yield Finding(("auth", "user"), what, f"choose another, such as {spec.kind.cloud.user}")


def _instead(kind: Kind, key: str) -> str:
    if key in ("instances", "instance"):
        return (
            "list the machines under `hosts`"
            if kind.machine == "host"
            else "say what a node has with `resources`, as in {CPU: 4}"
        )
    if key in ("hosts", "host"):
        return f"hosts belong to provider {next(one.name for one in KINDS.values() if one.machine == 'host')}"
    return "remove it"


def _check_machines(spec: Parts) -> Iterator[Finding]:
    """Each pool must say which machines it is made of, where the provider cannot know."""
    for index, pool in enumerate(spec.pools):
        kind = spec.kind_of(pool)
        if kind.cloud is not None and not (pool.instances or pool.gpu or pool.resources or pool.reservation):
            yield Finding(
                ("pools", index),
                f"pool {pool.name!r} does not say which machines it wants",
                "give `instances`, `gpu` or `resources`",
            )
        if kind.machine == "host" and not pool.hosts:
            yield Finding(
                ("pools", index), f"pool {pool.name!r} has no hosts", "list them, as in `hosts: [10.0.0.5, 10.0.0.6]`"
            )


def _check_reservations(spec: Parts) -> Iterator[Finding]:
    for index, pool in enumerate(spec.pools):
        cloud = spec.kind_of(pool).cloud
        form = cloud.reservation if cloud is not None else None
        if form is not None and pool.reservation and not form.fits(pool.reservation):
            what = f"{shorten(pool.reservation)} is not the id of a capacity reservation of {spec.kind_of(pool).title}"
            yield Finding(("pools", index, "reservation"), what, f"as in {form.example}")


def _check_markets(spec: Parts) -> Iterator[Finding]:
    for index, pool in enumerate(spec.pools):
        kind = spec.kind_of(pool)
        known = kind.cloud.markets if kind.cloud is not None else MARKETS
        for number, market in enumerate(pool.market):
            if market not in known:
                what = f"{kind.title} has no market {market!r}"
                yield Finding(("pools", index, "market", number), what, f"it has {' and '.join(known)}")


def _check_limits(spec: Parts) -> Iterator[Finding]:
    least, limits = sum(pool.min for pool in spec.pools), spec.limits
    if limits.nodes is not None and limits.nodes < least + 1:
        text = f"limits.nodes ({limits.nodes}) is below what the pools' min and the head need ({least + 1})"
        yield Finding(("limits", "nodes"), text, f"raise it to {least + 1} or more")
    gpus = sum(pool.min * (pool.gpu.count if pool.gpu else pool.resources.get("GPU", 0)) for pool in spec.pools)
    if limits.gpus is not None and limits.gpus < gpus:
        yield Finding(("limits", "gpus"), f"limits.gpus ({limits.gpus:g}) is below what the pools' min has ({gpus:g})")
    day, month = limits.budget.per_day, limits.budget.per_month
    if day is not None and month is not None and day > month:
        yield Finding(
            ("limits", "budget", "per_day"), f"the budget of a day ({day:g}) is above that of a month ({month:g})"
        )


def _check_ray(spec: Parts) -> Iterator[Finding]:
    if spec.ray is None:
        return
    path = ("engine", "ray")
    version = _VERSION.fullmatch(spec.ray.version)
    if spec.ray.version and not version:
        yield Finding(
            (*path, "version"), f"{shorten(spec.ray.version)} is not a version of Ray", "write one such as 2.60.0"
        )
    elif version and (int(version[1][:9]), int(version[2][:9])) < OLDEST_RAY:
        text = f"Ray {spec.ray.version} is too old: before 2.56 it runs whatever anyone on the network sends it"
        yield Finding((*path, "version"), text, "write 2.56.0 or later")
    for index, extra in enumerate(spec.ray.extras):
        if extra not in RAY_EXTRAS:
            suggestion = did_you_mean(extra, RAY_EXTRAS) or f"Ray has {', '.join(RAY_EXTRAS)}"
            yield Finding((*path, "extras", index), f"Ray has no extra {shorten(extra)}", suggestion)
    yield from _check_packages(spec.ray)


def _check_whole_amounts(spec: Parts) -> Iterator[Finding]:
    """A task may ask for half of something; what a node has is whole for Ray."""
    parts = [(("pools", index, "resources"), pool.resources, pool) for index, pool in enumerate(spec.pools)]
    for path, resources, pool in [(("head", "resources"), spec.head.resources, None), *parts]:
        for name, amount in resources.items():
            if amount != int(amount) and has_engine(spec, pool):
                text = f"a node of Ray has {name} in whole numbers, not {amount:g}"
                yield Finding((*path, name), text, "write a whole number, or `engine: none`")


def _check_packages(ray: Ray) -> Iterator[Finding]:
    """What uv can resolve for nodes of other machines: names in an index, not files here."""
    path = ("engine", "ray", "packages")
    if ray.packages and ray.python:
        text = "nothing is installed where `python` names an interpreter"
        yield Finding(path, text, "install them there and leave `packages` out, or leave `python` out")
    if ray.requirements and ray.python:
        text = "nothing is installed where `python` names an interpreter"
        fix = "install them there and leave `requirements` out, or leave `python` out"
        yield Finding(("engine", "ray", "requirements"), text, fix)
    for index, line in enumerate(ray.packages):
        wrong = wrong_requirement(line)
        if wrong:
            yield Finding((*path, index), *wrong)
        elif canonicalize_name(Requirement(line).name) == "ray":
            yield Finding((*path, index), *RAY_ITSELF)


def _check_files(spec: Parts) -> Iterator[Finding]:
    """Nodes that are processes of this machine put files into directories of their own and nowhere else."""
    kinds = (spec.kind_of(pool) for pool in spec.pools)
    here = {kind.name for kind in kinds if kind.machine == "process"}
    taken: set[str] = set()
    for index, mount in enumerate(spec.files):
        path = ("files", index, "to")
        parts = mount.to.rstrip("/").split("/")
        full = mount.to.startswith(("/", "~/"))
        if full and here:
            text = f"a node of provider {min(here)!r} is a process of this machine and keeps to its own directory"
            fix = f"write `to: {parts[-1] or 'data'}`: what runs on a node finds it below $CLUSTERCTL_FILES"
            yield Finding(path, f"{text}: {shorten(mount.to)} is outside", fix)
        elif ".." in parts or parts[-1] in ("", ".") or (mount.to.startswith("~") and not full):
            yield Finding(path, f"{shorten(mount.to)} does not name a file or directory", "as in /data, ~/data or data")
        elif mount.to in taken:
            yield Finding(path, f"{shorten(mount.to)} is given twice", "each target takes one file or directory")
        taken.add(mount.to)
