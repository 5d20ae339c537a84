"""How instances came to their end, by the operations that Compute Engine keeps: a list shows only what is there."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from clusterctl.core.errors import ProviderError
from clusterctl_providers.gcp.calls import Calls, last_part
from clusterctl_providers.gcp.errors import OperationError, typed
from clusterctl_providers.gcp.names import id_of, zone_and_name

log = logging.getLogger(__name__)

AT_ONCE = 50  # names in one question: it is part of an address
ASKED = 3  # times; an operation may be told of a moment after what it did
_FIELDS = "nextPageToken,items(operationType,targetLink,user,error,httpErrorStatusCode,httpErrorMessage,insertTime)"
_PREEMPTED = "compute.instances.preempted"
_WORDS = {
    _PREEMPTED: "Google took it back (preempted)",
    "compute.instances.hostError": "its host failed",
    "compute.instances.guestTerminate": "it turned itself off",
    "compute.instances.terminateOnHostMaintenance": "its host was maintained",
    "delete": "{user} deleted it",
    "stop": "{user} stopped it",
    "suspend": "{user} suspended it",
}


@dataclass(frozen=True)
class End:
    """`refused`: the code of the error, where it never ran; `reclaimed`: it was a spot instance, and taken back."""

    words: str
    refused: str = ""
    reclaimed: bool = False


class Ends:
    """Each instance is asked about a few times at most, and what is known is remembered."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._known: dict[str, End] = {}
        self._asked: dict[str, int] = {}

    def of(self, instance_ids: Iterable[str]) -> dict[str, End]:
        """As far as Google tells; what cannot be found out is missing, which is no error."""
        wanted = list(instance_ids)
        open_ones = [i for i in wanted if i not in self._known and self._asked.get(i, 0) < ASKED]
        for zone in sorted({zone_and_name(i)[0] for i in open_ones}):
            names = [zone_and_name(i)[1] for i in open_ones if zone_and_name(i)[0] == zone]
            for start in range(0, len(names), AT_ONCE):
                self._ask(zone, names[start : start + AT_ONCE])
        return {i: self._known[i] for i in wanted if i in self._known}

    def known(self, instance_id: str) -> End | None:
        return self._known.get(instance_id)

    def _ask(self, zone: str, names: list[str]) -> None:
        what = f"asking how {len(names)} instances in {zone} came to their end"
        found: dict[str, list[Mapping[str, Any]]] = {}
        try:
            for row in self._operations(zone, names, what):
                found.setdefault(last_part(str(row.get("targetLink") or "")), []).append(row)
        except ProviderError as error:
            log.info("%s; it is asked again", error)
            return
        for name in names:
            instance_id = id_of(zone, name)
            self._asked[instance_id] = self._asked.get(instance_id, 0) + 1
            if end := _end_in(found.get(name, ())):
                self._known[instance_id] = end

    def _operations(self, zone: str, names: list[str], what: str) -> Iterator[Mapping[str, Any]]:
        wanted = f'targetLink eq ".*/instances/({"|".join(map(re.escape, names))})"'
        for page in self._calls.pages(f"zones/{zone}/operations", what, filter=wanted, fields=_FIELDS):
            yield from page.get("items") or ()


def _end_in(operations: Iterable[Mapping[str, Any]]) -> End | None:
    """What ended an instance that these operations were about; None where none of them tells."""
    rows = sorted(operations, key=lambda row: str(row.get("insertTime") or ""))
    failed = [row for row in rows if row.get("operationType") in ("insert", "bulkInsert") and row.get("error")]
    if failed:
        wrong = typed(OperationError(failed[-1]), "launching it")
        return End(str(wrong), refused=wrong.code)
    kinds = [row for row in rows if not row.get("error") and row.get("operationType") in _WORDS]
    if not kinds:
        return None
    taken = [row for row in kinds if row["operationType"] == _PREEMPTED]
    row = (taken or kinds)[-1]
    words = _WORDS[str(row["operationType"])].format(user=row.get("user") or "somebody")
    return End(words, reclaimed=bool(taken))
