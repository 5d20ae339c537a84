"""What an installed distribution needs, as its metadata says it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from importlib import metadata
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from clusterctl.core.errors import ClusterctlError

Environment = Mapping[str, str]  # marker variables that differ from this interpreter's


def linux_environment(python_minor: str, machine: str) -> Environment:
    """The marker variables of CPython `python_minor` ("3.12") on a Linux machine."""
    return {
        "python_version": python_minor,
        "python_full_version": f"{python_minor}.0",
        "implementation_name": "cpython",
        "implementation_version": f"{python_minor}.0",
        "platform_python_implementation": "CPython",
        "platform_machine": machine,
        "platform_system": "Linux",
        "sys_platform": "linux",
        "os_name": "posix",
    }


def needed(name: str, extras: Collection[str] = (), environment: Environment | None = None) -> list[Requirement]:
    """What distribution `name` needs with these extras where `environment` holds (this interpreter's by default). Raises
    PackageNotFoundError, and ClusterctlError where its metadata cannot be read."""
    return [requirement for requirement in _stated(name) if _holds(requirement, extras, environment or {})]


def closure(root: str, extras: Collection[str] = (), *, without: Collection[str] = ()) -> set[str]:
    """All that `root` needs here, by normalized name and itself left out; `without`: what it needs itself and is not wanted. What
    is not installed here is left out, too: it was not missed so far."""
    top = canonicalize_name(root)
    asked: set[tuple[str, frozenset[str]]] = set()
    waiting = [(top, frozenset(extras))]
    while waiting:
        asking = waiting.pop()
        if asking in asked or not _is_installed(asking[0]):
            continue
        asked.add(asking)
        for requirement in needed(*asking):
            name = canonicalize_name(requirement.name)
            if asking[0] != top or name not in without:
                waiting.append((name, frozenset(requirement.extras)))
    return {name for name, _ in asked} - {top}


def _stated(name: str) -> Iterator[Requirement]:
    for text in metadata.requires(name) or []:
        try:
            yield Requirement(text)
        except InvalidRequirement as error:
            raise ClusterctlError(
                f"the installed package {name} says {text!r} of what it needs, which is no requirement: install it anew"
            ) from error


def _holds(requirement: Requirement, extras: Collection[str], environment: Environment) -> bool:
    if requirement.marker is None:
        return True
    variables: list[dict[str, Any]] = [{**environment, "extra": extra} for extra in extras or ("",)]
    return any(requirement.marker.evaluate(these) for these in variables)


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
