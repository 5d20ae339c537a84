"""What this version reads in a spec and cannot carry out, one row for each: who makes a part work deletes its row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from clusterctl.spec.document import Document
from clusterctl.spec.faults import Fault, Path, SpecError
from clusterctl.spec.model import ClusterSpec
from clusterctl.spec.network import unreachable
from clusterctl.spec.providers.registry import KINDS
from clusterctl.version import __version__


class Unsupported(SpecError):
    """The spec is right, and this version cannot carry out a part of it."""


@dataclass(frozen=True)
class Row:
    """`field` is a dotted path, `*` stands for every item of a list. A row applies where the value is not the default
    and, if `provider` is given, under that provider. `lacks` says what would not happen."""

    field: str
    lacks: str
    fix: str
    provider: str = ""


_WORKING = [kind.name for kind in KINDS.values() if kind.works]
_NO_MACHINE = "no machine can be had there"
_OTHER = f"use one of the others ({', '.join(_WORKING)}), or a later version"

NOT_YET = (
    *(Row("provider", _NO_MACHINE, _OTHER, kind.name) for kind in KINDS.values() if not kind.works),
    Row("queue.fair_share", "all users wait in one line", "jobs run in the order of submission"),
    Row("queue.preemption", "no job gives way to another", "jobs run until they end"),
    Row("limits.per_user", "nobody would be held back", "limit the cluster or its pools"),
)


def check_supported(spec: ClusterSpec, located: Document | None = None) -> None:
    """Raises Unsupported with the place of everything in `spec` that this version cannot carry out."""
    faults = unsupported(spec, located)
    if faults:
        raise Unsupported(faults)


def unsupported(spec: ClusterSpec, located: Document | None = None) -> tuple[Fault, ...]:
    """What `check_supported` would raise, as `validate` warns of it. Without `located` the faults have no line."""
    faults = (
        _fault(row, path, spec, located)
        for row in NOT_YET
        if row.provider in ("", spec.provider_name)
        for path in _set_paths(spec, row.field)
    )
    return tuple(sorted([*faults, *_apart(spec, located)]))


def _apart(spec: ClusterSpec, located: Document | None) -> Iterator[Fault]:
    """Of pools of another provider: those that this version cannot make, and those whose nodes would not find the head."""
    for index, pool in enumerate(spec.pools):
        kind = spec.kind_of(pool)
        if kind is not spec.kind and not kind.works:
            yield _lacking(f"provider {kind.name!r}", _NO_MACHINE, _OTHER, ("pools", index, "provider"), spec, located)
    for path, why, fix in unreachable(spec):
        yield _at(path, why, fix, spec, located)


def _fault(row: Row, path: Path, spec: ClusterSpec, located: Document | None) -> Fault:
    name = ".".join(str(step) for step in path if isinstance(step, str))
    what = f"{name} {spec.provider_name!r}" if row.field == "provider" else f"{name!r}"
    return _lacking(what, row.lacks, row.fix, path, spec, located)


def _lacking(what: str, lacks: str, fix: str, path: Path, spec: ClusterSpec, located: Document | None) -> Fault:
    return _at(path, f"{what} does not work in clusterctl {__version__} yet: {lacks}", fix, spec, located)


def _at(path: Path, message: str, fix: str, spec: ClusterSpec, located: Document | None) -> Fault:
    if located is None:
        return Fault(spec.cluster, 0, 0, message, fix)
    return located.fault(path, message, fix, at_key=True)


def _set_paths(spec: ClusterSpec, field: str) -> Iterator[Path]:
    """The paths that match `field` and hold another value than their default."""
    if field == "provider":
        yield ("provider",)
    else:
        yield from _matches(spec.model_dump(mode="json", by_alias=True, exclude_defaults=True), field.split("."), ())


def _matches(data: Any, steps: list[str], path: Path) -> Iterator[Path]:
    if not steps:
        yield path
    elif steps[0] == "*" and isinstance(data, list):
        for index, item in enumerate(data):
            yield from _matches(item, steps[1:], (*path, index))
    elif isinstance(data, dict) and steps[0] in data:
        yield from _matches(data[steps[0]], steps[1:], (*path, steps[0]))
