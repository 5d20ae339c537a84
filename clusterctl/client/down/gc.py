"""`gc`: what the providers hold of clusters that nobody looks after any more.

A cluster is looked after when it is known here, when another home on this machine knows it, or when its head runs. What is
searched: see places.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from clusterctl.client.down.kept import kept_volumes
from clusterctl.client.down.places import Place, places
from clusterctl.client.images.build import builds
from clusterctl.client.registry import Registry, read_json
from clusterctl.core.errors import ClusterctlError

if TYPE_CHECKING:
    from clusterctl.client.specfile import SpecFile, SpecFiles
    from clusterctl.provision.gc import Stray


def collect_strays(
    registry: Registry,
    source: SpecFile | SpecFiles | None = None,
    tell: Callable[[str], None] = lambda _: None,
    *,
    dry_run: bool,
) -> list[Stray]:
    """Finds, and unless `dry_run` ends, every instance whose cluster nobody looks after; where `source` has its
    nodes, too. `tell` gets what was left alone and why."""
    from clusterctl_providers.this_machine import maker

    from clusterctl.provision.gc import collect

    with tempfile.TemporaryDirectory(prefix="clusterctl-gc-") as scratch:
        searched, silent = _reachable(places(registry, source), scratch)
        for trouble in silent:
            tell(trouble)
        strays = collect(
            {(place.provider, place.told): partial(place.open, scratch=scratch) for place in searched},
            lambda uid: uid in _owned(registry),
            time.time(),
            dry_run=dry_run,
            here=maker(),
        )
        for sentence in kept_volumes(registry, searched, scratch):
            tell(sentence)
    for one in source.each if source is not None else ():
        if one.spec.kind.machine == "host":
            from clusterctl.client.down.host_owners import clean_hosts

            strays += clean_hosts(registry, one, _owned(registry), tell, dry_run=dry_run)
    return strays


def _owned(registry: Registry) -> set[str]:
    """The uids that somebody here looks after at this very moment."""
    building = {uid for uid, _, busy in builds(registry) if busy}
    return {cluster.uid for cluster in registry.all()} | uids_in_use() | building


def _reachable(found: list[Place], scratch: str) -> tuple[list[Place], list[str]]:
    """Without those that nothing here names and that do not answer; why an account's does not is worth a sentence."""
    answering: list[Place] = []
    silent: list[str] = []
    for place in found:
        trouble = "" if place.named else _trouble_of(place, scratch)
        if not trouble:
            answering.append(place)
        elif not place.quiet:
            silent.append(f"provider {place.label} was not searched: {trouble}")
    return answering, silent


def _trouble_of(place: Place, scratch: str) -> str:
    try:
        with closing(place.open("", "", scratch)) as provider:
            return "; ".join(scope.error for scope in provider.list() if not scope.complete)
    except ClusterctlError as error:
        return str(error)


def uids_in_use() -> set[str]:
    """The uids of clusters that another home still knows, or whose head runs: found by the paths in the command lines of
    heads and agents on this machine."""
    uids: set[str] = set()
    for process in psutil.process_iter():
        try:
            arguments = process.cmdline()
        except psutil.Error:
            continue
        for argument in arguments:
            if argument.startswith("/") and "/clusters/" in argument:
                uids |= {_uid_in(directory) for directory in (Path(argument), *Path(argument).parents)}
    return uids - {""}


def _uid_in(directory: Path) -> str:
    """The uid of the cluster or the head whose directory this is, "" for any other."""
    for name in ("cluster.json", "config.json"):
        try:
            uid = read_json(directory / name).get("uid")
        except ClusterctlError:
            continue  # another user's, or half written
        if uid:
            return str(uid)
    return ""
