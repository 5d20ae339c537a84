"""Finds and ends what no live cluster owns: over all providers configured, by the uid in the tags, never by a name."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from clusterctl_providers.base import (
    TAG_EXPIRES,
    TAG_HEAD,
    TAG_MAKER,
    HasClusters,
    HasHeadMachine,
    HasLeftovers,
    Provider,
)

from clusterctl.core.errors import ClusterctlError
from clusterctl.core.model import Instance
from clusterctl.provision.lookup import living

FIRST_PAUSE = 0.05  # seconds between two looks; doubles up to LONGEST_PAUSE
LONGEST_PAUSE = 3.0


Open = Callable[
    [str, str], Provider
]  # (cluster, uid) -> a provider that sees that cluster's instances; ("", "") for none


@dataclass(frozen=True)
class Stray:
    """Instances of one cluster that no live cluster owns, at one provider, `where` of its places ("region us-west-2", ""
    where there is but one). `expired`: past the time by which their own dead-man switch should have ended them. `error` says
    why they could not be listed or ended, `spared` why they were left alone."""

    provider: str
    cluster: str
    uid: str
    instance_ids: tuple[str, ...]
    expired: bool = False
    removed: bool = False
    error: str = ""
    spared: str = ""
    where: str = ""

    @property
    def place(self) -> str:
        """Provider and where there, in words."""
        return f"{self.provider} ({self.where})" if self.where else self.provider


@dataclass(frozen=True)
class _Look:
    """What one whole or broken look at a cluster's instances showed."""

    left: tuple[Instance, ...]
    trouble: str


def collect(
    places: Mapping[tuple[str, str], Open],
    owned: Callable[[str], bool],
    now: float,
    *,
    dry_run: bool,
    patience: float = 60.0,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
    here: str = "",
) -> list[Stray]:
    """`places` by provider and where of it. `owned(uid)` says whether a cluster known here looks after its instances; it is asked
    after they were seen, and again before anything is ended, since a cluster is noted down before it has any. `here`: the
    maker that this user is. What is owned, or has a head elsewhere, is never touched. With `dry_run` nothing is."""
    strays: list[Stray] = []
    for (name, where), open_place in places.items():
        nothing = Stray(name, "", "", (), where=where)
        for cluster, uid, trouble in _found(nothing.place, open_place):
            if trouble:
                strays.append(replace(nothing, error=trouble))
            elif uid and not owned(uid):
                provider = open_place(cluster, uid)
                try:
                    sweep = _Sweep(provider, uid, patience, clock, pause)
                    stray = _swept(sweep, replace(nothing, cluster=cluster, uid=uid), owned, now, dry_run, here)
                finally:
                    provider.close()
                strays += [stray] if stray else []
    return strays


def _found(place: str, open_place: Open) -> list[tuple[str, str, str]]:
    """(cluster, uid, error) of every cluster that the place holds something of."""
    try:
        provider = open_place("", "")
        try:
            clusters = provider.find_clusters() if isinstance(provider, HasClusters) else []
        finally:
            provider.close()
    except Exception as error:
        return [("", "", f"provider {place} could not be searched: {error or type(error).__name__}")]
    return [(cluster, uid, "") for cluster, uid, _ in sorted(clusters)]


def _swept(
    sweep: _Sweep, stray: Stray, owned: Callable[[str], bool], now: float, dry_run: bool, here: str
) -> Stray | None:
    """Looks twice, and ends what is there unless somebody looks after it; None where its head or this home does."""
    looks = sweep.two_looks()
    instances = sweep.seen.values()
    if any(_is_head(instance) for look in looks for instance in look.left) or owned(stray.uid):
        return None
    stray = replace(stray, instance_ids=tuple(sorted(sweep.seen)), expired=all(_expires(i) < now for i in instances))
    makers = {dict(instance.tags).get(TAG_MAKER, "") for instance in instances} - {"", here}
    if makers:
        who = " and ".join(sorted(makers))
        return replace(
            stray,
            spared=f"its head runs at {who}: `clusterctl down` there, or where that is lost for good `clusterctl list --adopt "
            "SPEC` and `clusterctl down` here",
        )
    if kept := sweep.state():
        return replace(stray, spared=kept)
    if not dry_run and not sweep.trouble:
        sweep.end()
    removed = not dry_run and not sweep.trouble
    error = f"provider {stray.place}, cluster {stray.cluster} ({stray.uid}): {sweep.trouble}" if sweep.trouble else ""
    return replace(stray, instance_ids=tuple(sorted(sweep.seen)), removed=removed, error=error)


class _Sweep:
    """`trouble` says at any time why it has not come to its end; `seen` is all that any look has shown."""

    def __init__(
        self,
        provider: Provider,
        uid: str,
        patience: float,
        clock: Callable[[], float],
        pause: Callable[[float], None],
    ) -> None:
        self._provider, self._uid = provider, uid
        self._patience, self._clock, self._pause = patience, clock, pause
        self._settle = provider.settle_seconds
        self.seen: dict[str, Instance] = {}
        self.trouble = ""

    def two_looks(self) -> list[_Look]:
        """Two complete looks, as far apart as the provider's lists may lag behind; all that were made where there are none."""
        deadline, wait = self._clock() + self._patience, FIRST_PAUSE
        looks: list[_Look] = []
        complete = 0
        while True:
            looks.append(self._look())
            self.trouble = looks[-1].trouble
            complete = 0 if self.trouble else complete + 1
            if complete == 2 or self._clock() > deadline:
                return looks
            self._pause(wait if self.trouble else self._settle)
            wait = min(wait * 2, LONGEST_PAUSE)

    def state(self) -> str:
        """A head's disk outlives its machine, with the queue of whoever started the cluster: that is no garbage."""
        try:
            disk = self._provider.head_disk() if isinstance(self._provider, HasHeadMachine) else None
        except ClusterctlError as error:
            self.trouble = str(error)
            return ""
        if disk is None:
            return ""
        return (
            f"its queue is on the volume {disk.id}, and `clusterctl up` where it was started brings it back; `clusterctl "
            "down` there removes it, or delete that volume first if its home is lost"
        )

    def end(self) -> None:
        """Ends all that there is, until two complete looks in a row show nothing and nothing else is left."""
        deadline, wait, empty = self._clock() + self._patience, FIRST_PAUSE, 0
        while empty < 2:
            empty = self._end_once(empty)
            if empty < 2 and self._clock() > deadline:
                self.trouble = self.trouble or f"they were still listed after {self._patience:g} s"
                return
            if empty == 0:
                self._pause(wait)
                wait = min(wait * 2, LONGEST_PAUSE)
            elif empty == 1:
                self._pause(self._settle)

    def _end_once(self, empty: int) -> int:
        """How many looks in a row have shown nothing by now."""
        look = self._look()
        self.trouble = look.trouble
        try:
            self._provider.terminate([instance.id for instance in look.left])
            if self.trouble or any(i.state != "terminated" for i in look.left):
                return 0
            if empty == 1 and isinstance(self._provider, HasLeftovers) and (waiting := self._provider.sweep()):
                self.trouble = "; ".join(waiting)
                self._pause(FIRST_PAUSE)
                return 1
        except ClusterctlError as error:
            self.trouble = str(error)
            return 0
        return empty + 1

    def _look(self) -> _Look:
        try:
            scopes = self._provider.list()
        except ClusterctlError as error:
            return _Look((), str(error))
        left = tuple(i for scope in scopes for i in scope.instances if i.uid == self._uid)
        shown = {instance.id for instance in left}
        missing = [
            i for i, seen in self.seen.items() if i not in shown and seen.state not in ("stopping", "terminated")
        ]
        troubles = [scope.error or f"{scope.scope} is incomplete" for scope in scopes if not scope.complete]
        try:
            hidden = living(self._provider, self._uid, missing)
        except ClusterctlError as error:
            return _Look(left, "; ".join([*troubles, str(error)]))
        if hidden:
            troubles.append(f"a part of the list is missing: it lacks {', '.join(i.id for i in hidden)}")
        left += hidden
        self.seen.update({instance.id: instance for instance in left})
        for instance_id in set(missing) - {instance.id for instance in hidden}:
            self.seen[instance_id] = replace(self.seen[instance_id], state="terminated")
        return _Look(left, "; ".join(troubles))


def _is_head(instance: Instance) -> bool:
    """Whether a head daemon runs on it: a machine whose daemon falls silent turns itself off."""
    return bool(dict(instance.tags).get(TAG_HEAD)) and instance.state in ("pending", "running")


def _expires(instance: Instance) -> float:
    text = dict(instance.tags).get(TAG_EXPIRES, "")
    return float(text) if text.isdecimal() else float("inf")
