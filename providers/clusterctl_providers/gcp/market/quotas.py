"""Compute Engine's quotas: which ones an instance type and market fall under, and how high they are.

Several bind one machine: its vCPUs by series, its GPUs in the region, and all GPUs of the project. Newer series have limits that
no list shows; of those Google speaks when they are used up.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from clusterctl.core.errors import ProviderError
from clusterctl_providers.catalog import InstanceType, instance_types
from clusterctl_providers.cloud.doctor import Check
from clusterctl_providers.cloud.quotas import ListedLimits, Quota, Quotas, quota_rows
from clusterctl_providers.gcp.calls import Calls
from clusterctl_providers.gcp.errors import CONSOLE
from clusterctl_providers.gcp.machines.accelerators import machine_of
from clusterctl_providers.gcp.market.reservations import FLEX_START

log = logging.getLogger(__name__)

ALL_GPUS = "GPUS_ALL_REGIONS"
_OWN_CPUS = ("a2", "c2", "c2d", "c3", "m1", "m2", "m3", "n2", "n2d", "t2a", "t2d")  # series that are counted apart
_SHARED_CPUS = ("e2", "n1", "f1", "g1", "g2")
_GPUS = {
    ("A100", 40): "NVIDIA_A100_GPUS",
    ("A100", 80): "NVIDIA_A100_80GB_GPUS",
    ("H100", 80): "NVIDIA_H100_GPUS",
    ("L4", 24): "NVIDIA_L4_GPUS",
    ("P100", 16): "NVIDIA_P100_GPUS",
    ("P4", 8): "NVIDIA_P4_GPUS",
    ("T4", 16): "NVIDIA_T4_GPUS",
    ("V100", 16): "NVIDIA_V100_GPUS",
}


class Limits(ListedLimits):
    """Those of the region and of the project, from two calls."""

    def __init__(self, calls: Calls, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(lambda: _read(calls, f"regions/{calls.region}") | _read(calls, ""), clock)


def _read(calls: Calls, path: str) -> dict[str, float]:
    what = f"looking up the quotas of {path or 'the project'}"
    try:
        found = calls.get(path, what, fields="quotas")
    except ProviderError as error:
        log.info("%s; Google Cloud will say when they are used up", error)
        return {}
    return {str(row["metric"]): float(row.get("limit") or 0) for row in found.get("quotas") or ()}


def quotas_of(machine: InstanceType, market: str, limit: Callable[[Quota], float | None]) -> list[tuple[Quota, float]]:
    """Each quota that a launch counts against, with how much of it one machine takes. What is taken away again counts
    against quotas of its own where the project has been given some."""
    wanted: list[tuple[str, str, float]] = []
    series = machine_of(machine.name).machine_type.partition("-")[0]
    if series in _OWN_CPUS:
        wanted.append((f"{series.upper()}_CPUS", "vCPUs", machine.vcpus))
    elif series in _SHARED_CPUS:
        wanted.append(("CPUS", "vCPUs", machine.vcpus))
    if machine.gpu_vendor == "nvidia":
        metric = _GPUS.get((machine.gpu_name, round(machine.gpu_memory_gib)), "")
        if metric:
            wanted.append((metric, "GPUs", machine.gpu_count))
        wanted.append((ALL_GPUS, "GPUs", machine.gpu_count))
    return [(_counted(metric, unit, market, limit), each) for metric, unit, each in wanted]


def _counted(metric: str, unit: str, market: str, limit: Callable[[Quota], float | None]) -> Quota:
    if market in ("spot", FLEX_START) and metric != ALL_GPUS:
        own = Quota(f"PREEMPTIBLE_{'CPUS' if unit == 'vCPUs' else metric}", "", unit)
        if limit(own):
            return Quota(own.code, own.code, unit)
    return Quota(metric, metric, unit)


def check(quotas: Quotas, machine: InstanceType, market: str, count: int, calls: Calls) -> None:
    """Raises QuotaExceeded for what cannot be had even where nothing else runs: `count` machines at once."""
    fix = f"ask for more at {page(calls.project)}, or name other instance types"
    for quota, each in quotas_of(machine, market, quotas.limit):
        quotas.check(quota, machine.name, each, count, calls.region, fix)


def limit_rows(quotas: Quotas, wanted: Iterable[tuple[str, str]], calls: Calls) -> list[Check]:
    """Rows of `doctor` for what these types and markets count against."""
    machines = {machine.name: machine for machine in instance_types("gcp")}
    limits = [
        (quota, name, each)
        for name, market in wanted
        for quota, each in quotas_of(machines[name], market, quotas.limit)
    ]
    return quota_rows(quotas, limits, calls.region, "compute.regions.get", page(calls.project))


def page(project: str) -> str:
    """Google's, where one asks for more."""
    return f"{CONSOLE}/iam-admin/quotas?project={project}"
