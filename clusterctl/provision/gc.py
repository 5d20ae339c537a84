"""Finds and ends what no live cluster owns: over all providers configured, by the uid in the tags, never by a name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from clusterctl_providers.base import TAG_EXPIRES, TAG_HEAD, HasClusters, HasHeadMachine, HasLeftovers, Provider

from clusterctl.core.errors import ClusterctlError
from clusterctl.core.model import Instance, Observed

FIRST_PAUSE = 0.05  # seconds between two looks; doubles up to LONGEST_PAUSE
LONGEST_PAUSE = 3.0


@dataclass(frozen=True)
class Stray:
    """Instances of one cluster at one provider that no live cluster owns. `expired`: past the time by which their own
    dead-man switch should have ended them. `error` says why they could not be listed or ended."""

    provider: str
    cluster: str
    uid: str
    instance_ids: tuple[str, ...]
    expired: bool = False
    removed: bool = False
    error: str = ""


def collect(
    providers: Mapping[str, Provider],
    open_provider: Callable[[str, str, str], Provider],
    owned: Callable[[str], bool],
    now: float,
    *,
    dry_run: bool,
    patience: float = 60.0,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> list[Stray]:
    """`open_provider(name, cluster, uid)` gives a provider that sees that cluster's instances; `owned(uid)` says
    whether a cluster known here is alive and looks after them. What is owned is never touched. With `dry_run` nothing
    is."""
    strays: list[Stray] = []
    for name, cluster, uid, trouble in _found(providers):
        if trouble:
            strays.append(Stray(name, "", "", (), error=trouble))
        elif uid and not owned(uid):
            provider = open_provider(name, cluster, uid)
            try:
                strays.append(_sweep(name, provider, cluster, uid, now, dry_run, patience, clock, pause))
            finally:
                provider.close()
    return [stray for stray in strays if stray.instance_ids or stray.error]


def _found(providers: Mapping[str, Provider]) -> Iterator[tuple[str, str, str, str]]:
    """(provider, cluster, uid, error) of every cluster that the providers hold something of."""
    for name, provider in providers.items():
        if not isinstance(provider, HasClusters):
            continue
        try:
            clusters = provider.find_clusters()
        except Exception as error:
            yield name, "", "", f"provider {name} could not be searched: {error or type(error).__name__}"
            continue
        for cluster, uid, _ in sorted(clusters):
            yield name, cluster, uid, ""


def _sweep(
    name: str,
    provider: Provider,
    cluster: str,
    uid: str,
    now: float,
    dry_run: bool,
    patience: float,
    clock: Callable[[], float],
    pause: Callable[[float], None],
) -> Stray:
    """Ends one cluster's instances until two complete lists in a row show none."""
    deadline, wait, empty = clock() + patience, FIRST_PAUSE, 0
    seen: dict[str, Instance] = {}
    trouble = ""
    while empty < 2:
        try:
            scopes = provider.list()
            trouble = "; ".join(scope.error or f"{scope.scope} is incomplete" for scope in scopes if not scope.complete)
            left = _ours(scopes, uid)
            if not seen and any(_is_head(instance) for instance in left):
                return Stray(name, cluster, uid, ())  # its head looks after it, wherever it was started from
            if not seen and (kept := _state_of(provider)):
                return Stray(name, cluster, uid, (), error=f"left alone: {kept}")
            seen.update({instance.id: instance for instance in left})
            if dry_run:
                break
            provider.terminate([instance.id for instance in left])
            empty = empty + 1 if not trouble and not any(i.state != "terminated" for i in left) else 0
            if empty == 2 and isinstance(provider, HasLeftovers) and (waiting := provider.sweep()):
                trouble, empty = "; ".join(waiting), 1
        except ClusterctlError as error:
            trouble, empty = str(error), 0
        if clock() > deadline:
            trouble = trouble or f"they were still listed after {patience:g} s"
            break
        if empty == 0:
            pause(wait)
            wait = min(wait * 2, LONGEST_PAUSE)
    removed = empty >= 2
    expired = all(_expires(instance) < now for instance in seen.values())
    error = "" if removed or not trouble else f"provider {name}, cluster {cluster} ({uid}): {trouble}"
    return Stray(name, cluster, uid, tuple(sorted(seen)), expired, removed, error)


def _ours(scopes: list[Observed], uid: str) -> list[Instance]:
    return [instance for scope in scopes for instance in scope.instances if instance.uid == uid]


def _is_head(instance: Instance) -> bool:
    """Whether a head daemon runs on it: a machine whose daemon falls silent turns itself off."""
    return bool(dict(instance.tags).get(TAG_HEAD)) and instance.state in ("pending", "running")


def _state_of(provider: Provider) -> str:
    """A head's disk outlives its machine, with the queue of whoever started the cluster: that is no garbage."""
    disk = provider.head_disk() if isinstance(provider, HasHeadMachine) else None
    if disk is None:
        return ""
    return (
        f"its queue is on the volume {disk.id}, and `clusterctl up` where it was started brings it back; `clusterctl down` there "
        "removes it, or delete that volume first if its home is lost"
    )


def _expires(instance: Instance) -> float:
    text = dict(instance.tags).get(TAG_EXPIRES, "")
    return float(text) if text.isdecimal() else float("inf")
