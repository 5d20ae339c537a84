"""Contradictions between keys that each are right alone, and amounts no node can have: a model in, Findings out."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from clusterctl.spec.faults import Finding, did_you_mean, flow, refuse, shorten
from clusterctl.spec.providers.kind import Kind
from clusterctl.spec.providers.registry import KINDS
from clusterctl.spec.units import parse_size

if TYPE_CHECKING:
    from clusterctl.spec.model import ClusterSpec, Pool

SIZES = ("memory", "object_store_memory")  # resources that count bytes
_WELL_KNOWN = {
    "cpu": "CPU",
    "cpus": "CPU",
    "vcpu": "CPU",
    "gpu": "GPU",
    "gpus": "GPU",
    "nvidia.com/gpu": "GPU",
    "mem": "memory",
    "ram": "memory",
}
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LABEL_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_VERSION = re.compile(r"(\d+)\.(\d+)(\.\d+)?([a-z0-9.]*)")
OLDEST_RAY = (2, 56)  # the first with token authentication everywhere
RAY_EXTRAS = (
    "adag", "air", "all", "cgraph", "client", "cpp", "data", "default", "llm", "observability", "rllib", "serve",
    "serve-async-inference", "serve-grpc", "train", "tune",
)  # fmt: skip


def read_amounts(value: Any) -> Any:
    """Resources as plain numbers: sizes become bytes; familiar names written otherwise are refused."""
    if not isinstance(value, dict):
        return value
    amounts: dict[Any, Any] = {}
    findings: list[Finding] = []
    for name, amount in value.items():
        familiar = _familiar(str(name))
        if familiar != name:
            findings.append(
                Finding((name,), f"unknown resource {shorten(name)}", f"did you mean {familiar!r}?", at_key=True)
            )
            continue
        try:
            amounts[name] = parse_size(amount) if name in SIZES and not isinstance(amount, float) else amount
            findings += _check_amount(str(name), amounts[name])
        except ValueError as error:
            findings.append(Finding((name,), str(error)))
    return refuse(findings) if findings else amounts


def _familiar(name: str) -> str:
    """The right name of a resource that is known under several; others are the user's own."""
    lower = name.lower()
    return lower if lower in SIZES else _WELL_KNOWN.get(lower, name)


def _check_amount(name: str, amount: Any) -> Iterator[Finding]:
    if isinstance(amount, bool) or not isinstance(amount, int | float) or not math.isfinite(amount):
        yield Finding((name,), f"the amount of {name!r} must be a number, not {shorten(amount)}")
    elif amount < 0:
        yield Finding((name,), f"resource {name!r} is negative ({amount:g})")
    elif name in SIZES and amount != int(amount):
        yield Finding((name,), f"{name!r} counts bytes: {amount:g} is not a size", f"did you mean {amount:g}GiB?")
    elif name == "GPU" and amount != int(amount):
        yield Finding(
            (name,), f"a node cannot have {amount:g} GPUs", "jobs may ask for a part of one; a node has whole ones"
        )


def read_env(value: Any) -> Any:
    """Environment variables, whose names must be such."""
    findings = list(_check_env(value)) if isinstance(value, dict) else []
    return refuse(findings) if findings else value


def _check_env(env: dict[Any, Any]) -> Iterator[Finding]:
    for name, value in env.items():
        yield from _check_text(name, value)
        if not _ENV_NAME.fullmatch(str(name)):
            what = f"{shorten(name)} is not a name for an environment variable"
            yield Finding((name,), what, "letters, digits and '_', no digit first", True)
        elif name.startswith("CLUSTERCTL_"):
            what = f"{shorten(name)} is reserved: clusterctl sets the variables that begin with CLUSTERCTL_"
            yield Finding((name,), what, "", True)


def read_labels(value: Any) -> Any:
    """Labels, which Ray must accept."""
    findings = list(_check_labels(value)) if isinstance(value, dict) else []
    return refuse(findings) if findings else value


def _check_labels(labels: dict[Any, Any]) -> Iterator[Finding]:
    allowed = "up to 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends"
    for key, value in labels.items():
        yield from _check_text(key, value)
        if str(key).startswith("ray.io/"):
            yield Finding(
                (key,), f"label {shorten(key)} is reserved: Ray sets those that begin with 'ray.io/'", "", True
            )
        elif not _LABEL_KEY.fullmatch(str(key)):
            yield Finding((key,), f"{shorten(key)} is not a label", allowed, True)
        if isinstance(value, str) and not _LABEL_VALUE.fullmatch(value):
            yield Finding((key,), f"{shorten(value)} is not a label's value", allowed)


def _check_text(name: Any, value: Any) -> Iterator[Finding]:
    """Lists and mappings are no text. Numbers and booleans are taken as written, by whoever knows the text."""
    if isinstance(value, list | dict):
        yield Finding((name,), f"{str(name)!r} must be text, not a {'list' if isinstance(value, list) else 'mapping'}")


def check_pool(pool: Pool) -> list[Finding]:
    """What contradicts itself inside one pool; paths are relative to the pool."""
    findings: list[Finding] = []
    if pool.min > pool.max:
        findings.append(
            Finding(("min",), f"min ({pool.min}) is above max ({pool.max})", f"raise max to {pool.min} or lower min")
        )
    if pool.gpu and "GPU" in pool.resources:
        findings.append(
            Finding(
                ("resources", "GPU"), "the GPUs of a node are given twice: here and by 'gpu'", "keep one of them", True
            )
        )
    if pool.gpu and pool.instances:
        findings.append(Finding(("gpu",), "'gpu' and 'instances' both choose the machine", "keep one of them", True))
    for key in ("market", "zones", "instances"):
        findings += _check_repeats((key,), getattr(pool, key))
    if not pool.market:
        findings.append(Finding(("market",), "no market is named", "write [spot, on-demand], or remove the key"))
    if pool.orphan_timeout == 0:
        findings.append(Finding(("orphan_timeout",), "every node would end itself at once", "write 15m"))
    if isinstance(pool.hosts, list):
        findings += _check_hosts(pool)
    return findings


def _check_repeats(path: tuple[str, ...], values: list[str]) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            yield Finding((*path, index), f"{shorten(value)} is listed twice")
        seen.add(value)


def _check_hosts(pool: Pool) -> Iterator[Finding]:
    assert isinstance(pool.hosts, list)
    names = [(entry, 0) if isinstance(entry, str) else (entry.host, entry.port or 0) for entry in pool.hosts]
    seen: set[tuple[str, int]] = set()
    for index, name in enumerate(names):
        if name in seen:
            yield Finding(("hosts", index), f"host {shorten(name[0])} is listed twice")
        seen.add(name)
    if pool.min > len(names):
        yield Finding(("min",), f"min ({pool.min}) is above the number of hosts ({len(names)})")


def check_cluster(spec: ClusterSpec) -> list[Finding]:
    """What contradicts itself between the parts of a spec."""
    return [
        *_check_pool_names(spec),
        *_check_region(spec),
        *_check_zones(spec),
        *_check_foreign_keys(spec),
        *_check_auth(spec),
        *_check_machines(spec),
        *_check_limits(spec),
        *_check_ray(spec),
        *_check_files(spec),
    ]


def _check_pool_names(spec: ClusterSpec) -> Iterator[Finding]:
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


def _kind_of(spec: ClusterSpec, pool: Pool) -> Kind:
    return KINDS[pool.provider or spec.provider_name]


def _check_region(spec: ClusterSpec) -> Iterator[Finding]:
    if spec.kind.cloud is not None and not spec.provider_settings.get("region"):
        example = f"write `provider: {flow(spec.kind.example)}`"
        yield Finding(("provider",), f"provider {spec.kind.name!r} needs a region", example)


def _check_zones(spec: ClusterSpec) -> Iterator[Finding]:
    """Zones must be in the region, and the head where the pools are."""
    cloud = spec.kind.cloud
    region = spec.provider_settings.get("region", "") if cloud is not None and cloud.zones_tell_region else ""
    pools = [(index, pool) for index, pool in enumerate(spec.pools) if _kind_of(spec, pool) is spec.kind]
    for index, pool in pools:
        for position, zone in enumerate(pool.zones):
            if cloud is not None and not zone.startswith(region):
                path = ("pools", index, "zones", position)
                yield Finding(
                    path,
                    f"zone {shorten(zone)} is not in region {shorten(region)}",
                    f"{region} has zones such as {cloud.zone_in(region)}",
                )
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


def _check_foreign_keys(spec: ClusterSpec) -> Iterator[Finding]:
    for index, pool in enumerate(spec.pools):
        kind = _kind_of(spec, pool)
        for key in type(pool).model_fields:
            if key in kind.foreign and getattr(pool, key) not in (None, "", 0, [], ["on-demand"]):
                yield _foreign(("pools", index, key), kind)
    for key in type(spec.head).model_fields:
        if key in spec.kind.foreign and getattr(spec.head, key):
            yield _foreign(("head", key), spec.kind)


def _foreign(path: tuple[str | int, ...], kind: Kind) -> Finding:
    key = str(path[-1])
    return Finding(path, f"{key!r} means nothing to provider {kind.name!r}", _instead(kind, key), True)


def _check_auth(spec: ClusterSpec) -> Iterator[Finding]:
    if spec.kind.machine in ("process", "container") and spec.auth.model_dump(exclude_defaults=True):
        yield Finding(("auth",), f"'auth' means nothing to provider {spec.provider_name!r}", "remove it", True)


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


def _check_machines(spec: ClusterSpec) -> Iterator[Finding]:
    """Each pool must say which machines it is made of, where the provider cannot know."""
    for index, pool in enumerate(spec.pools):
        kind = _kind_of(spec, pool)
        if kind.cloud is not None and not (pool.instances or pool.gpu or pool.resources):
            yield Finding(
                ("pools", index),
                f"pool {pool.name!r} does not say which machines it wants",
                "give `instances`, `gpu` or `resources`",
            )
        if kind.machine == "host" and not pool.hosts:
            yield Finding(
                ("pools", index), f"pool {pool.name!r} has no hosts", "list them, as in `hosts: [10.0.0.5, 10.0.0.6]`"
            )


def _check_limits(spec: ClusterSpec) -> Iterator[Finding]:
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


def _check_ray(spec: ClusterSpec) -> Iterator[Finding]:
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


def _check_files(spec: ClusterSpec) -> Iterator[Finding]:
    """Nodes that are processes of this machine put files into directories of their own and nowhere else."""
    kinds = (_kind_of(spec, pool) for pool in spec.pools)
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
