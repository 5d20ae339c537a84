"""delete, stop and start of Compute Engine's instances (`cloud.power.PowerCalls`): a call each, sent together.

An end and a stop are believed once they are accepted: what becomes of them, the next look shows. A start is waited for, since
whether its zone has room for the machine comes with its operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from clusterctl.core.errors import BadRequest, NoCapacity, ProviderError, QuotaExceeded
from clusterctl_providers.cloud.listing import Listing
from clusterctl_providers.cloud.power import Answers, Verb, doing
from clusterctl_providers.gcp.calls import Calls
from clusterctl_providers.gcp.errors import is_missing
from clusterctl_providers.gcp.machines.instances import InstanceRows
from clusterctl_providers.gcp.names import is_id, zone_and_name

TOGETHER = 16
_SUSPENDED = "SUSPENDED"


class GcePower:
    cloud = "Google Cloud"
    most = 500

    def __init__(self, calls: Calls, rows: InstanceRows, listing: Listing) -> None:
        self._calls, self._rows, self._listing = calls, rows, listing

    def is_id(self, text: str) -> bool:
        return is_id(text)

    def change(self, verb: Verb, instance_ids: Sequence[str]) -> Answers:
        """What Google does not know (any more) has no answer."""
        act: dict[Verb, Callable[[str], bool]] = {"end": self._end, "stop": self._stop, "start": self._start}
        with ThreadPoolExecutor(min(TOGETHER, len(instance_ids)), "clusterctl-gce") as pool:
            found = pool.map(lambda i: (i, self._answer(act[verb], i)), instance_ids)
            return {i: answer for i, (known, answer) in found if known}

    def is_of_one(self, error: ProviderError) -> bool:
        return isinstance(error, NoCapacity | QuotaExceeded | BadRequest)

    def _answer(self, act: Callable[[str], bool], instance_id: str) -> tuple[bool, ProviderError | None]:
        try:
            return act(instance_id), None
        except ProviderError as error:
            return (False, None) if is_missing(error) else (True, error)

    def _end(self, instance_id: str) -> bool:
        zone, name = zone_and_name(instance_id)
        self._calls.change("DELETE", f"zones/{zone}/instances/{name}", doing("end", [instance_id]))
        return True

    def _stop(self, instance_id: str) -> bool:
        zone, name = zone_and_name(instance_id)
        self._calls.change("POST", f"zones/{zone}/instances/{name}/stop", doing("stop", [instance_id]))
        return True

    def _start(self, instance_id: str) -> bool:
        """What runs already is started."""
        zone, name = zone_and_name(instance_id)
        row = self._rows.find(instance_id)
        if row is None:
            return False
        if row["status"] in ("RUNNING", "STAGING", "PROVISIONING", "REPAIRING"):
            return True
        if row["status"] == _SUSPENDED:
            raise BadRequest(f"{instance_id} was suspended by hand, and is resumed by hand: another is launched")
        self._calls.run("POST", f"zones/{zone}/instances/{name}/start", doing("start", [instance_id]))
        return True
