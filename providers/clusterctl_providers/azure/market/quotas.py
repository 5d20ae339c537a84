"""Azure's quotas of a region: which ones a size and market fall under, and how high they are.

On demand a machine counts twice, among the vCPUs of its family and among all of the region; spot machines of all families count
together, against a quota of their own.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable

from clusterctl.core.errors import ProviderError
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.errors import QUOTAS
from clusterctl_providers.azure.market.skus import Skus
from clusterctl_providers.catalog import InstanceType, instance_types
from clusterctl_providers.cloud.doctor import Check
from clusterctl_providers.cloud.quotas import ListedLimits, Quota, Quotas, quota_rows

log = logging.getLogger(__name__)

CORES = Quota("cores", "Total Regional vCPUs")
SPOT_CORES = Quota("lowprioritycores", "Total Regional Low-priority vCPUs")
PERMISSION = "Microsoft.Compute/locations/usages/read"
_FAMILY = re.compile(r"standard[_ ]?(\w+?) ?family", re.IGNORECASE)


class Limits(ListedLimits):
    """Those of the region, from one list."""

    def __init__(self, calls: Calls, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(lambda: _read(calls), clock)


def _read(calls: Calls) -> dict[str, float]:
    region = calls.region
    path = calls.path("Microsoft.Compute", "locations", region, "usages")
    try:
        rows = calls.list(path, f"looking up the quotas of {region}")
    except ProviderError as error:
        log.info("%s; Azure will say when they are used up", error)
        return {}
    return {str(row["name"]["value"]).lower(): float(row.get("limit") or 0) for row in rows}


def quotas_of(machine: InstanceType, market: str, skus: Skus) -> list[tuple[Quota, float]]:
    """Each quota that a launch counts against, with how many of its vCPUs one machine takes. Raises nothing: a family that is
    not to be looked up is left out."""
    if market == "spot":
        return [(SPOT_CORES, machine.vcpus)]
    try:
        sku = skus.of(machine.name)
    except ProviderError as error:
        log.info("%s; Azure will say when the quota of its family is used up", error)
        sku = None
    family = [(family_quota(sku.family), float(machine.vcpus))] if sku and sku.family else []
    return [*family, (CORES, machine.vcpus)]


def family_quota(family: str) -> Quota:
    """Of a family as the list of sizes has it, standardDASv5Family: that of quotas may write it with other capitals, and Azure's
    page calls it Standard DASv5 Family vCPUs."""
    found = _FAMILY.fullmatch(family)
    return Quota(family.lower(), f"Standard {found[1]} Family vCPUs" if found else family)


def check(quotas: Quotas, machine: InstanceType, market: str, count: int, calls: Calls, skus: Skus) -> None:
    """Raises QuotaExceeded for what cannot be had even where nothing else runs: `count` machines at once."""
    fix = f"ask for more at {QUOTAS}, or name other sizes or another region"
    for quota, each in quotas_of(machine, market, skus):
        quotas.check(quota, machine.name, each, count, calls.region, fix)


def limit_rows(quotas: Quotas, wanted: Iterable[tuple[str, str]], calls: Calls, skus: Skus) -> list[Check]:
    """Rows of `doctor` for what these sizes and markets count against."""
    machines = {machine.name: machine for machine in instance_types("azure")}
    limits = [(quota, name, each) for name, market in wanted for quota, each in quotas_of(machines[name], market, skus)]
    return quota_rows(quotas, limits, calls.region, PERMISSION, QUOTAS)
