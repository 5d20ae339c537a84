"""The providers that a cluster's instances may be at: those of its spec, and of every spec before.

A pool that leaves the spec leaves nodes to be ended, and things that only `down` removes. So its provider stays on file with its
settings, here and on the head's machine, until the cluster is no more.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from clusterctl_runtime.files.private import make_private_dir, write_private

from clusterctl.core.errors import Refused, UsageError
from clusterctl.spec.model import ClusterSpec
from clusterctl.spec.providers.registry import KINDS

FILE = "providers.json"
Settings = Mapping[str, Any]


def used(directory: Path) -> dict[str, dict[str, Any]]:
    """Settings by name, of those on file in a head's directory; {} where none was ever noted."""
    try:
        return json.loads((directory / FILE).read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UsageError(
            f"{directory / FILE} is damaged ({error}): put a copy of it back, or remove it if every provider that ever had "
            "nodes of this cluster is still in its spec, since others are looked at no more then"
        ) from error


def note(directory: Path, spec: ClusterSpec) -> dict[str, dict[str, Any]]:
    """Of a spec's pools, on disk before anything is made there. Returns all by now, the cluster's own first. Raises Refused where
    one would be looked for elsewhere than where it was used."""
    before = used(directory)
    (own, settings), *others = spec.providers.items()
    for name, wanted in others:
        _check_same_place(name, before.get(name), wanted)
    now = {**before, **dict(others)}
    if now != before:
        write_private(directory / FILE, json.dumps(now, indent=1))
    return {own: settings, **{name: found for name, found in now.items() if name != own}}


def add(directory: Path, name: str, settings: Settings) -> None:
    """One at which something of a cluster was found."""
    write_private(directory / FILE, json.dumps({**used(directory), name: dict(settings)}, indent=1))


def _check_same_place(name: str, before: Settings | None, now: Settings) -> None:
    if before is None or before == now:
        return
    ways = KINDS[name].changes
    keys = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key) and ways.get(key) == "refused"]
    if keys:
        told = " and ".join(f"{key} {before.get(key)!r}" for key in keys)
        raise Refused(
            f"this cluster has used provider {name!r} with {told}, where something of it may be still: `clusterctl down` first, "
            "then `up`"
        )


def beside(state_dir: Path, name: str, names: Iterable[str], own: str) -> tuple[str, ...]:
    """The directories of the others of `names`."""
    return tuple(str(scratch(state_dir, other, own)) for other in names if other != name)


def scratch(state_dir: Path, name: str, own: str) -> Path:
    """The directory for that provider's scratch: the cluster's `own` has `state_dir` itself, each other one its own below."""
    if name == own:
        return state_dir
    return make_private_dir(make_private_dir(state_dir / "pools") / name)
