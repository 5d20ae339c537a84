"""Whether a VM runs, and why one failed: a list of VMs shows neither.

Resource Graph answers for a thousand VMs in one call, and may lag a minute behind: what it says is a hint. VMs that it calls
stopped, or ought to know by now and does not, are asked one by one by their instance view, a few at each look; so are those
that were stopped or started here a moment ago, and those that failed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from clusterctl.core.errors import AuthFailed, ProviderError
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.errors import OperationError, is_missing, typed
from clusterctl_providers.azure.network.group import ResourceGroup

log = logging.getLogger(__name__)

GRAPH = "/providers/Microsoft.ResourceGraph/resources"
AT_ONCE = 1000  # rows in an answer of Resource Graph
LAGS = 120.0  # seconds that Resource Graph is believed to be behind at most: Microsoft says up to 60
BELIEVED = 60.0  # seconds that an instance view of a VM that does not run is believed
ASKED = 20  # VMs at most that are asked one by one at a look
TOGETHER = 10
_RUNS = "running"
_QUERY = """resources
| where type =~ 'microsoft.compute/virtualmachines' and resourceGroup =~ '{group}'
| project name, power = tostring(properties.extended.instanceView.powerState.code)
| order by name asc"""


@dataclass(frozen=True)
class View:
    """`power`: "running", "starting", "stopping", "stopped", "deallocating", "deallocated", "" where none is told. `wrong`: why
    the VM failed, None where it did not."""

    power: str = ""
    wrong: ProviderError | None = None


@dataclass(frozen=True)
class Vm:
    """What is asked about: `path` is its id, `age` in seconds since it was made, `failed` by its provisioning state."""

    name: str
    path: str
    age: float
    failed: bool = False


class Views:
    """Remembers what it was told."""

    def __init__(self, calls: Calls, group: ResourceGroup, clock: Callable[[], float] = time.time) -> None:
        self._calls, self._group, self._clock = calls, group, clock
        self._known: dict[str, tuple[float, View]] = {}  # name -> (when it was asked, what it said)
        self._changed: dict[str, float] = {}  # name -> when it was stopped or started here
        self._turn = 0

    def change(self, names: Iterable[str]) -> None:
        """These are stopped or started here: what was known of them is not so any more."""
        for name in names:
            self._changed[name] = self._clock()
            self._known.pop(name, None)

    def of(self, vms: Sequence[Vm]) -> dict[str, View]:
        """As far as it is to be known: who is missing runs, or is about to."""
        if not vms:
            return {}
        hints = self._hints()
        self._known = {vm.name: self._known[vm.name] for vm in vms if vm.name in self._known}
        doubtful = [vm for vm in vms if self._is_doubtful(vm, hints)]
        self._ask(self._in_turn([vm for vm in doubtful if self._is_stale(vm.name)]))
        found = {vm.name: self._known[vm.name][1] for vm in doubtful if vm.name in self._known}
        for vm in vms:
            if vm.name not in found and hints and hints.get(vm.name):
                found[vm.name] = View(hints[vm.name])
        return found

    def look(self, vm: Vm) -> View | None:
        """Of one, asked for now; None where it is gone."""
        try:
            view = self._read(vm)
        except ProviderError as error:
            if is_missing(error):
                return None
            raise
        self._known[vm.name] = (self._clock(), view)
        return view

    # ------------------------------------------------------------ hints

    def _hints(self) -> dict[str, str] | None:
        """Name -> power state; None where Resource Graph does not answer, or may not be asked."""
        what, body = "asking Resource Graph which machines run", self._query()
        found: dict[str, str] = {}
        try:
            while True:
                answer = self._calls.ask("POST", GRAPH, what, body)
                for row in answer.get("data") or ():
                    found[str(row.get("name") or "").lower()] = _state(str(row.get("power") or ""))
                token = str(answer.get("$skipToken") or "")
                if not token:
                    return found
                body = self._query(token)
        except AuthFailed as error:
            log.info("%s; machines are asked one by one", error)
        except ProviderError as error:
            log.info("%s; it is asked again", error)
        return None

    def _query(self, token: str = "") -> dict[str, Any]:
        options: dict[str, Any] = {"$top": AT_ONCE, "resultFormat": "objectArray"}
        if token:
            options["$skipToken"] = token
        query = _QUERY.format(group=self._group.name.replace("'", "''"))
        return {"subscriptions": [self._calls.subscription], "query": query, "options": options}

    def _is_doubtful(self, vm: Vm, hints: Mapping[str, str] | None) -> bool:
        if vm.failed or self._clock() - self._changed.get(vm.name, float("-inf")) < LAGS:
            return True
        if hints is None:
            return vm.age > LAGS
        hint = hints.get(vm.name, "")
        return hint != _RUNS and (bool(hint) or vm.age > LAGS)

    # ------------------------------------------------------------ one by one

    def _is_stale(self, name: str) -> bool:
        at, view = self._known.get(name, (float("-inf"), View()))
        lasts = 0.0 if view.power not in ("stopped", "deallocated") and view.wrong is None else BELIEVED
        return self._clock() - at >= lasts

    def _in_turn(self, vms: list[Vm]) -> list[Vm]:
        """A few of them; the others come at the next looks."""
        if len(vms) <= ASKED:
            return vms
        start = self._turn % len(vms)
        self._turn += ASKED
        return (vms[start:] + vms[:start])[:ASKED]

    def _ask(self, vms: list[Vm]) -> None:
        if not vms:
            return
        with ThreadPoolExecutor(min(TOGETHER, len(vms)), "clusterctl-azure") as pool:
            for vm, view in zip(vms, pool.map(self._told, vms), strict=True):
                if view is not None:
                    self._known[vm.name] = (self._clock(), view)

    def _told(self, vm: Vm) -> View | None:
        try:
            return self._read(vm)
        except ProviderError as error:
            if not is_missing(error):
                log.info("%s; it is asked again", error)
            return None

    def _read(self, vm: Vm) -> View:
        shown = self._calls.get(f"{vm.path}/instanceView", f"asking how {vm.name} is")
        power, wrong = "", None
        for status in shown.get("statuses") or ():
            kind, _, rest = str(status.get("code") or "").partition("/")
            if kind == "PowerState":
                power = _state(rest)
            elif kind == "ProvisioningState" and rest.lower().startswith("failed"):
                wrong = _reason(vm.name, rest, status)
        return View(power, wrong)


def _state(code: str) -> str:
    return code.rpartition("/")[2].lower()


def _reason(name: str, code: str, status: Mapping[str, Any]) -> ProviderError:
    """ "failed/AllocationFailed" with its message, as what a launch that is refused says."""
    failed = OperationError({"code": code.partition("/")[2], "message": status.get("message") or ""})
    error = typed(failed, f"launching {name}")
    error.__cause__ = failed
    return error
