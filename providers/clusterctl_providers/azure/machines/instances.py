"""What Azure shows of a cluster's VMs, as instances that know which node they are (`cloud.listing.InstanceCalls`).

A look is the pages of VMs of the resource group; their network cards, where an address is not known yet; and a question to
Resource Graph about which of them run (`views`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Literal

from clusterctl.core.errors import ProviderError
from clusterctl.core.model import Instance, labels_of, launch_token
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.errors import is_missing
from clusterctl_providers.azure.machines.cards import Cards
from clusterctl_providers.azure.machines.ends import End, Ends
from clusterctl_providers.azure.machines.views import View, Views, Vm
from clusterctl_providers.azure.market.reservations import market_of
from clusterctl_providers.azure.names import is_id, member_in, member_of, name_in, tags_in
from clusterctl_providers.azure.network.group import ResourceGroup
from clusterctl_providers.base import TAG_CLUSTER, TAG_GENERATION, TAG_NODE, TAG_TOKEN, TAG_UID

TOGETHER = 10  # VMs that are asked for at the same time
State = Literal["pending", "running", "stopping", "stopped", "terminated"]
_POWERS: dict[str, State] = {
    "running": "running",
    "starting": "pending",
    "stopping": "stopping",
    "deallocating": "stopping",
    "stopped": "stopped",
    "deallocated": "stopped",
}
_WORDS = {
    "stopped": "it turned itself off, or was stopped, and costs what it did until it is ended",
    "deallocated": "it was deallocated",
}
_DELETING, _CREATING, _FAILED = "deleting", "creating", "failed"


class VmRows:
    """Reads VMs of the cluster's resource group, by our tags or by their names."""

    def __init__(
        self,
        calls: Calls,
        cluster: str,
        uid: str,
        group: ResourceGroup,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._calls, self._cluster, self._uid, self._group, self._clock = calls, cluster, uid, group, clock
        self.views = Views(calls, group, lambda: self._clock())
        self._cards = Cards(calls, group)
        self._ends = Ends(calls, group, lambda: self._clock())
        self._spot: set[str] = set()  # of those that were shown
        self._let_go: set[str] = set()  # that we end

    def alive(self) -> Iterator[Instance]:
        """All with our uid; those of a page that is not to be had are missed, after the others were shown."""
        found: list[dict[str, Any]] = []
        failed: ProviderError | None = None
        try:
            for row in self._rows():
                if tags_in(row).get(TAG_UID) == self._uid:
                    found.append(row)
        except ProviderError as error:
            failed = error
        yield from self.instances(found)
        if failed is not None:
            raise failed

    def ours(self, instance_ids: Sequence[str]) -> Iterator[Instance]:
        return (instance for instance in self.any_of(instance_ids) if instance.uid == self._uid)

    def any_of(self, instance_ids: Sequence[str]) -> Iterator[Instance]:
        """Each is asked for; those that are gone with how they came to their end, where that is known."""
        wanted = [name for name in dict.fromkeys(instance_ids) if is_id(name)]
        if not wanted:
            return
        with ThreadPoolExecutor(min(TOGETHER, len(wanted)), "clusterctl-azure") as pool:
            rows = dict(zip(wanted, pool.map(self.find, wanted), strict=True))
        yield from self.instances([row for row in rows.values() if row is not None])
        gone = [name for name, row in rows.items() if row is None and name not in self._let_go]
        for name, end in self._ends.of(gone, lambda name: name in self._spot).items():
            yield self._ended(name, end)

    def find(self, name: str) -> dict[str, Any] | None:
        """The row of one; None where it is not there (any more)."""
        try:
            return self._calls.get(self.path(name), f"looking up {name}")
        except ProviderError as error:
            if is_missing(error):
                return None
            raise

    def named(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Rows by name, those of the cluster's that are there."""
        wanted = set(names)
        return {name_in(str(row["id"])): row for row in self._rows() if name_in(str(row["id"])) in wanted}

    def clusters(self) -> list[tuple[str, str, int]]:
        """(cluster, uid, VMs) of everything in this region that carries a uid, in any resource group."""
        counts: dict[tuple[str, str], int] = {}
        path = self._calls.path("Microsoft.Compute", "virtualMachines")
        for row in self._calls.list(path, f"looking for machines of clusters in {self._calls.region}"):
            tags = tags_in(row)
            if TAG_UID in tags and str(row.get("location") or "").lower() == self._calls.region:
                key = (tags.get(TAG_CLUSTER, ""), tags[TAG_UID])
                counts[key] = counts.get(key, 0) + 1
        return sorted((name, uid, count) for (name, uid), count in counts.items())

    def path(self, name: str) -> str:
        return self._group.path("Microsoft.Compute", "virtualMachines", name)

    def let_go(self, names: Iterable[str]) -> None:
        """We end these: nobody took them."""
        self._let_go |= set(names)

    # ------------------------------------------------------------ reading

    def _rows(self) -> Iterator[dict[str, Any]]:
        """None where the resource group is not there (yet, or any more)."""
        what = f"listing the machines of cluster {self._uid[:8]} in {self._group.name}"
        try:
            for page in self._calls.pages(self._group.path("Microsoft.Compute", "virtualMachines"), what):
                yield from page.get("value") or ()
        except ProviderError as error:
            if not is_missing(error):
                raise

    def instances(self, rows: Sequence[Mapping[str, Any]]) -> list[Instance]:
        vms = [self._vm(row) for row in rows if not is_on_its_way(row) and not is_going(row)]
        views = self.views.of(vms)
        addresses = self._cards.addresses(vm.name for vm in vms if not vm.failed) if vms else {}
        return [self.instance(row, views.get(_name(row)), addresses.get(_name(row), "")) for row in rows]

    def view(self, row: Mapping[str, Any]) -> View | None:
        """Of one, asked for now; None where it is gone."""
        return self.views.look(self._vm(row))

    def _vm(self, row: Mapping[str, Any]) -> Vm:
        name = _name(row)
        return Vm(name, self.path(name), self._clock() - _seconds(row), _state(row) == _FAILED)

    def instance(self, row: Mapping[str, Any], view: View | None = None, address: str = "") -> Instance:
        name, tags = _name(row), tags_in(row)
        uid, market = tags.get(TAG_UID, ""), market_of(row)
        node_id, generation = member_of(name, tags)
        token = launch_token(uid, node_id, generation) if node_id and uid == self._uid else ""
        if node_id:
            tags |= {TAG_NODE: node_id, TAG_GENERATION: str(generation), TAG_TOKEN: token}
        if market == "spot":
            self._spot.add(name)
        state, detail = _shown(row, view)
        taken = _state(row) == _DELETING and market == "spot" and name not in self._let_go
        return Instance(
            id=name,
            uid=uid,
            node_id=node_id,
            generation=generation,
            state=state,
            address=address,
            zone=str(next(iter(row.get("zones") or ()), "")),
            instance_type=str((_properties(row).get("hardwareProfile") or {}).get("vmSize") or ""),
            market=market,
            created=_seconds(row),
            token=token,
            detail="Azure takes it back (evicted), or somebody deletes it" if taken else detail,
            tags=labels_of(tags),
            refused=view.wrong.code if view and view.wrong and state == "stopped" else "",
            reclaimed=taken,
        )

    def _ended(self, name: str, end: End) -> Instance:
        """One that is gone; its name says whose it was."""
        node_id, generation = member_in(name, self._cluster, self._uid)
        return Instance(
            id=name,
            uid=self._uid if node_id else "",
            node_id=node_id,
            generation=generation,
            state="terminated",
            token=launch_token(self._uid, node_id, generation) if node_id else "",
            detail=end.words,
            reclaimed=end.reclaimed,
        )


def has_failed(row: Mapping[str, Any]) -> bool:
    return _state(row) == _FAILED


def is_on_its_way(row: Mapping[str, Any]) -> bool:
    """Whether it is not known yet if it comes up."""
    return _state(row) == _CREATING


def is_going(row: Mapping[str, Any]) -> bool:
    return _state(row) == _DELETING


def is_lost(row: Mapping[str, Any]) -> bool:
    """Whether no node will come of it, as far as a list shows."""
    return has_failed(row) or is_going(row)


def _shown(row: Mapping[str, Any], view: View | None) -> tuple[State, str]:
    """A VM that failed keeps its card and its disk: it is there, and is to be ended. One that failed at something else, while
    it runs, runs."""
    provisioning, power = _state(row), view.power if view else ""
    if provisioning == _DELETING:
        return "stopping", ""
    if provisioning == _CREATING:
        return "pending", ""
    if provisioning == _FAILED and power != "running":
        return ("stopped", str(view.wrong)) if view and view.wrong else ("pending", "it failed; Azure is asked why")
    return _POWERS.get(power, "running"), _WORDS.get(power, "")


def _properties(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return row.get("properties") or {}


def _name(row: Mapping[str, Any]) -> str:
    return name_in(str(row["id"]))


def _state(row: Mapping[str, Any]) -> str:
    return str(_properties(row).get("provisioningState") or "").lower()


def _seconds(row: Mapping[str, Any]) -> float:
    at = str(_properties(row).get("timeCreated") or "")
    return datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp() if at else 0.0
