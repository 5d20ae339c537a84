"""How VMs came to their end that are gone: by what was shown of them last, and by the subscription's activity log, which knows
who deleted what, and of evictions, but some minutes later."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from clusterctl.core.errors import ProviderError
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.names import name_in
from clusterctl_providers.azure.network.group import ResourceGroup

log = logging.getLogger(__name__)

ASKED = 3  # times; the log is told of something some minutes after it was done
BACK = 2 * 3600.0  # seconds that the log is read back
PAUSE = 60.0  # seconds between two readings of it
PAGES = 5  # of it at most at a time
_EVICTED, _DELETED = "evictspotvm", "delete"
_OPERATION = re.compile(r"microsoft\.compute/virtualmachines/(?P<verb>\w+)(?:/action)?", re.IGNORECASE)
_SELECT = "eventTimestamp,operationName,status,caller,resourceId"
TAKEN = "Azure took it back (evicted)"
GUESSED = "it was a spot machine and is gone: Azure took it back (evicted), or somebody deleted it"


@dataclass(frozen=True)
class End:
    """`reclaimed`: it was a spot VM, and taken back."""

    words: str
    reclaimed: bool = False


class Ends:
    """What is known is remembered."""

    def __init__(self, calls: Calls, group: ResourceGroup, clock: Callable[[], float] = time.time) -> None:
        self._calls, self._group, self._clock = calls, group, clock
        self._known: dict[str, End] = {}
        self._asked: dict[str, int] = {}
        self._read_at = float("-inf")

    def of(self, names: Iterable[str], spot: Callable[[str], bool]) -> dict[str, End]:
        """As far as it is to be known; who is missing just is not there, which is no error. `spot`: whether a VM was one when it
        was shown last."""
        wanted = list(names)
        if any(name not in self._known and self._asked.get(name, 0) < ASKED for name in wanted):
            self._read(wanted)
        found = {name: self._known[name] for name in wanted if name in self._known}
        return {name: End(GUESSED, True) for name in wanted if name not in found and spot(name)} | found

    def _read(self, wanted: list[str]) -> None:
        if self._clock() - self._read_at < PAUSE:
            return
        self._read_at = self._clock()
        try:
            for row in self._rows():
                self._take(row)
        except ProviderError as error:
            log.info("%s; why %d machines ended is asked for again", error, len(wanted))
            return
        for name in wanted:
            self._asked[name] = self._asked.get(name, 0) + 1

    def _take(self, row: Mapping[str, Any]) -> None:
        """An eviction says more than the deletion that comes of it."""
        operation = _OPERATION.fullmatch(str((row.get("operationName") or {}).get("value") or ""))
        verb, name = (operation["verb"].lower() if operation else ""), name_in(str(row.get("resourceId") or ""))
        if verb == _EVICTED:
            self._known[name] = End(TAKEN, reclaimed=True)
        elif verb == _DELETED and name not in self._known:
            self._known[name] = End(f"{row.get('caller') or 'somebody'} deleted it")

    def _rows(self) -> Iterable[Mapping[str, Any]]:
        since = datetime.fromtimestamp(self._clock() - BACK, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        wanted = f"eventTimestamp ge '{since}' and resourceGroupName eq '{self._group.name}'"
        path = self._calls.path("Microsoft.Insights", "eventtypes", "management", "values")
        what = "reading in the activity log how machines came to their end"
        for number, page in enumerate(self._calls.pages(path, what, _filter=wanted, _select=_SELECT), 1):
            yield from page.get("value") or ()
            if number == PAGES:
                return
