"""EC2's limits on vCPUs: which one an instance type and market fall under, and how high it is."""

from __future__ import annotations

import logging
import re
import threading
import time
from dataclasses import dataclass

from clusterctl.core.errors import ProviderError
from clusterctl_providers.aws.calls import Calls

log = logging.getLogger(__name__)
LAST = 3600.0  # seconds that an answer is believed

# family letters -> (quota code, name) on demand and on spot; codes are the same in every account and region
_STANDARD = ("L-1216C47A", "L-34B43A08", "Standard (A, C, D, H, I, M, R, T, Z)")
_FAMILIES: tuple[tuple[str, str, str, str], ...] = (
    (r"p5|p6", "L-417A185B", "L-C4BD4855", "P"),
    (r"p\d", "L-417A185B", "L-7212CCBC", "P"),
    (r"dl\d", "L-6E869C2A", "L-85EED4F7", "DL"),
    (r"(g\d|gr\d|vt\d)", "L-DB2E81BA", "L-3819A6DF", "G and VT"),
    (r"trn\d", "L-2C3B7624", "L-6B0D517C", "Trn"),
    (r"inf\d", "L-1945791B", "L-B5D1601B", "Inf"),
    (r"x\d", "L-7295265B", "L-E3A00192", "X"),
    (r"f\d", "L-74FC7D96", "L-88CF9481", "F"),
    (r"u-|u\d", "L-43DA4232", "", "High Memory"),
    (r"hpc\d", "L-F7808C92", "", "HPC"),
)
# where the console names them otherwise for spot
_SPOT_NAMES = {"L-C4BD4855": "P5", "L-7212CCBC": "P4, P3 and P2"}


@dataclass(frozen=True)
class Quota:
    code: str
    name: str


def quota_of(instance_type: str, market: str) -> Quota:
    """The quota that a launch counts against, with the name that the console shows."""
    demand, spot, family = next(
        (row[1:] for row in _FAMILIES if re.match(row[0], instance_type)),
        (_STANDARD[0], _STANDARD[1], _STANDARD[2]),
    )
    if market == "spot":
        return Quota(spot, f"All {_SPOT_NAMES.get(spot, family)} Spot Instance Requests")
    return Quota(demand, f"Running On-Demand {family} instances")


class Quotas:
    """Looks quotas up where the account allows it; None where it does not."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._known: dict[str, tuple[float, float | None]] = {}
        self._lock = threading.Lock()

    def vcpus(self, quota: Quota) -> float | None:
        if not quota.code:
            return None
        with self._lock:
            until, value = self._known.get(quota.code, (0.0, None))
            if time.monotonic() >= until:
                value = self._ask(quota)
                self._known[quota.code] = (time.monotonic() + LAST, value)
            return value

    def _ask(self, quota: Quota) -> float | None:
        what = f"looking up the quota {quota.name!r} in {self._calls.region}"
        try:
            answer = self._calls.call(
                "servicequotas", "get_service_quota", what, ServiceCode="ec2", QuotaCode=quota.code
            )
            return float(answer["Quota"]["Value"])
        except (ProviderError, KeyError) as error:
            log.info("%s; AWS will say when it is used up", error)
            return None
