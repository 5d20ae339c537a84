"""`/metrics` in Prometheus' text format."""

from __future__ import annotations

import asyncio
import platform
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import ProcessCollector

from clusterctl.core.model import Limits, NodeState, Offer, Pool, Spend
from clusterctl.spec.to_core import core_limits, core_pools
from clusterctl.version import __version__
from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.metrics.counts import Counts
from clusterctl_runtime.head.metrics.look import Machine, Sheet, Users, look
from clusterctl_runtime.head.metrics.table import TABLE
from clusterctl_runtime.head.metrics.text import Page, histogram_values
from clusterctl_runtime.head.pulse import BOUNDS, Histogram

if TYPE_CHECKING:
    from clusterctl_runtime.head.head import Head

KEPT_SECONDS = 1.0  # an answer is good for whoever asks meanwhile
_SUMS = ("clusterctl_spend_dollars_total", "clusterctl_user_spend_dollars_total")
_LIVE = [state for state in NodeState if state is not NodeState.GONE]
_OF_NODES = {
    "cpus": "node_cpus",
    "cpu_seconds": "node_cpu_seconds_total",
    "memory": "node_memory_size_bytes",
    "memory_used": "node_memory_used_bytes",
    "read": "node_disk_read_bytes_total",
    "written": "node_disk_written_bytes_total",
    "received": "node_network_received_bytes_total",
    "sent": "node_network_sent_bytes_total",
}
_OF_GPUS = {
    "busy": "gpu_utilization_ratio",
    "memory": "gpu_memory_size_bytes",
    "memory_used": "gpu_memory_used_bytes",
    "celsius": "gpu_temperature_celsius",
    "watts": "gpu_power_watts",
}
_OF_JOBS = {
    "cpu_seconds": "job_cpu_seconds_total",
    "memory": "job_memory_bytes",
    "processes": "job_processes",
    "read": "job_disk_read_bytes_total",
    "written": "job_disk_written_bytes_total",
}


class Exposition:
    """Answers whoever asks for the metrics, however many ask at once."""

    def __init__(self, head: Head) -> None:
        self._head, self._users = head, Users()
        self._process = ProcessCollector(registry=None)
        self._lock = asyncio.Lock()
        self._made, self._text = float("-inf"), b""
        self._told: dict[str, dict[tuple[str, ...], float]] = {}  # of `_SUMS`, with the last answer

    async def text(self) -> bytes:
        """Of this moment, or of one less than `KEPT_SECONDS` ago. Read in turns of the loop, written in a thread."""
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if now - self._made >= KEPT_SECONDS:
                sheet = await look(self._head, self._users)
                self._text = await asyncio.to_thread(self._write, sheet)
                self._made = now
            return self._text

    def _write(self, sheet: Sheet) -> bytes:
        head, config = self._head, self._head.config
        now, spec = steady_time(), config.spec
        sheet.set("build_info", 1, __version__, platform.python_version())
        sheet.set("cluster_info", 1, config.name, config.uid, spec.provider_name)
        pools, markets = core_pools(spec), markets_of(sheet, head.autoscaler.offers)
        set_pools(sheet, pools, markets)
        head.counts.show_zeros([pool.name for pool in pools], markets)
        set_budget(sheet, core_limits(spec), head.journal.spend(now))
        for pool, dollars in head.journal.spent_by_pool(now).items():
            sheet.set("spend_dollars_total", dollars, pool)
        for name in _SUMS:
            self._told[name] = no_less(sheet.values[name], self._told.get(name, {}))
        self._set_sizes(sheet, config.directory)
        providers = {pool.name: spec.kind_of(pool).name for pool in spec.pools}
        for machine in sheet.machines:
            set_machine(sheet, machine, providers.get(machine.view.node.pool, spec.provider_name))
        own = {
            "clusterctl_loop_late_seconds": head.pulse.late,
            "clusterctl_loop_busy_seconds": head.pulse.busy,
            "clusterctl_plan_seconds": head.autoscaler.planning,
        }
        page = written(sheet, own, head.counts)
        for metric in self._process.collect():
            page.family(metric)
        return page.bytes()

    def _set_sizes(self, sheet: Sheet, directory: Path) -> None:
        for kind, name in (("jobs", "store.db"), ("nodes", "nodes.db")):
            sheet.set("storage_bytes", _size(directory / name) + _size(directory / f"{name}-wal"), kind)
        sheet.set("storage_bytes", self._head.logs.size_of_all, "logs")
        sheet.set("storage_bytes", self._head.blobs.size_of_all, "packages")
        disk = shutil.disk_usage(directory)
        sheet.set("head_disk_size_bytes", disk.total)
        sheet.set("head_disk_free_bytes", disk.free)


def written(sheet: Sheet, own: Mapping[str, Histogram], counts: Counts) -> Page:
    """All of the table, in its order. `own`: histograms by name."""
    page, counted = Page(), counts.all()
    for entry in TABLE:
        if entry.name in counted:
            for metric in counted[entry.name].collect():
                page.family(metric)
            continue
        page.head(entry.name, entry.kind, f"{entry.text}.")
        if entry.name in own:
            histogram = own[entry.name]
            page.series(f"{entry.name}_bucket", ["le"], histogram_values(BOUNDS, histogram.counts))
            page.series(f"{entry.name}_count", [], {(): sum(histogram.counts)})
            page.series(f"{entry.name}_sum", [], {(): histogram.seconds})
        else:
            page.series(entry.name, entry.labels, sheet.values[entry.name])
    return page


def no_less(
    values: dict[tuple[str, ...], float], before: Mapping[tuple[str, ...], float]
) -> dict[tuple[str, ...], float]:
    """Raises values to what they were. A job that ends while the books are read is in neither of two sums; and a counter that
    falls by a cent is one that began anew, to Prometheus, which adds all of it once more."""
    for labels, value in before.items():
        values[labels] = max(value, values.get(labels, 0.0))
    return dict(values)


def markets_of(sheet: Sheet, offers: Iterable[Offer]) -> set[tuple[str, str]]:
    """(pool, market) of all nodes that there are or may be."""
    there = {(labels[0], labels[1]) for labels in sheet.values["clusterctl_nodes"]}
    return there | {(offer.pool, offer.market) for offer in offers}


def set_pools(sheet: Sheet, pools: Iterable[Pool], markets: Iterable[tuple[str, str]]) -> None:
    """Limits of pools; and zeros, for what there may be and is not."""
    for pool, market in markets:
        for state in _LIVE:
            sheet.add("nodes", 0, pool, market, state.value)
    for pool in pools:
        sheet.set("pool_nodes_min", pool.min, pool.name)
        sheet.set("pool_nodes_max", pool.max, pool.name)
        sheet.add("price_dollars_per_hour", 0, pool.name)
        sheet.add("nodes_disconnected", 0, pool.name)


def set_budget(sheet: Sheet, limits: Limits, spend: Spend) -> None:
    """Of the day and of the month."""
    for period, spent, limit in (
        ("day", spend.today, limits.budget_per_day),
        ("month", spend.month, limits.budget_per_month),
    ):
        sheet.set("budget_spent_dollars", spent, period)
        if limit is not None:
            sheet.set("budget_limit_dollars", limit, period)


def set_machine(sheet: Sheet, machine: Machine, provider: str) -> None:
    """What an agent has told of its node, GPUs and jobs."""
    node, figures = machine.view.node, machine.figures
    own = (node.id, node.pool)
    offer = node.offer
    sheet.set("node_info", 1, *own, provider, offer.instance_type, offer.market, offer.zone, machine.address)
    if machine.heard is not None:
        sheet.set("node_heard_timestamp_seconds", machine.heard, *own)
    _set_known(sheet, _OF_NODES, figures.get("node", {}), own)
    if "gpu_trouble" in figures.get("node", {}) and (offer.resources.get("GPU") or figures["gpus"]):
        sheet.set(
            "node_gpu_trouble", figures["node"]["gpu_trouble"], *own
        )  # others have an image with a driver, and no GPU
    for place, (size, free) in figures.get("disks", {}).items():
        sheet.set("node_disk_size_bytes", size, *own, place)
        sheet.set("node_disk_free_bytes", free, *own, place)
    for gpu, told in figures.get("gpus", {}).items():
        sheet.set("gpu_info", 1, *own, gpu, told["uuid"], told["name"])
        _set_known(sheet, _OF_GPUS, told, (*own, gpu))
        for kind in ("corrected", "uncorrected"):
            if kind in told:
                sheet.set("gpu_ecc_errors_total", told[kind], *own, gpu, kind)
        for xid, count in told["xids"].items():
            sheet.set("gpu_xid_errors_total", count, *own, gpu, xid)
    for job, told in figures.get("jobs", {}).items():
        _set_known(sheet, _OF_JOBS, told, (*own, job))
        for gpu, share in told["gpus"].items():
            sheet.set("job_gpu_share_ratio", share, *own, job, gpu)


def _set_known(sheet: Sheet, names: Mapping[str, str], told: Mapping[str, Any], labels: tuple[str, ...]) -> None:
    for key, name in names.items():
        if key in told:
            sheet.set(name, told[key], *labels)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
