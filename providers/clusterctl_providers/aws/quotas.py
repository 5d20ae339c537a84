"""EC2's limits on vCPUs: which one an instance type and market fall under, and how high it is."""

from __future__ import annotations

import logging
import re

from clusterctl.core.errors import ProviderError
from clusterctl_providers.aws.calls import Calls
from clusterctl_providers.cloud.quotas import Quota

log = logging.getLogger(__name__)
PAGE = "Service Quotas > Amazon EC2"  # of the console

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


def quota_of(instance_type: str, market: str) -> Quota:
    """The quota that a launch counts against, with the name that the console shows."""
    demand, spot, family = next(
        (row[1:] for row in _FAMILIES if re.match(row[0], instance_type)),
        (_STANDARD[0], _STANDARD[1], _STANDARD[2]),
    )
    if market == "spot":
        return Quota(spot, f"All {_SPOT_NAMES.get(spot, family)} Spot Instance Requests")
    return Quota(demand, f"Running On-Demand {family} instances")


def ask(calls: Calls, quota: Quota) -> float | None:
    """How high it is; None where the account does not tell."""
    what = f"looking up the quota {quota.name!r} in {calls.region}"
    try:
        answer = calls.call("servicequotas", "get_service_quota", what, ServiceCode="ec2", QuotaCode=quota.code)
        return float(answer["Quota"]["Value"])
    except (ProviderError, KeyError) as error:
        log.info("%s; AWS will say when it is used up", error)
        return None
