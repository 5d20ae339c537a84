"""Figures for Prometheus, made from the head's books when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric

from clusterctl.core.model import NodeState
from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.pulse import BOUNDS, Histogram

if TYPE_CHECKING:
    from clusterctl_runtime.head.head import Head

LATE = "How late the head's event loop was, looked at 50 times a second"


class _Collector:
    def __init__(self, head: Head) -> None:
        self._head = head

    def collect(self) -> Iterator[Metric]:
        head = self._head
        yield _gauge(
            "clusterctl_jobs", "Jobs by state.", ["state"], {(s,): float(n) for s, n in head.book.counts.items()}
        )
        nodes = {(p.name, s.value): 0.0 for p in head.config.spec.pools for s in NodeState}
        price: dict[tuple[str, ...], float] = {(p.name,): 0.0 for p in head.config.spec.pools}
        for node in head.journal.nodes().values():
            nodes[node.pool, node.state.value] = nodes.get((node.pool, node.state.value), 0) + 1
            price[(node.pool,)] = price.get((node.pool,), 0) + node.price
        yield _gauge("clusterctl_nodes", "Nodes by pool and state.", ["pool", "state"], dict(nodes))
        yield _gauge("clusterctl_price_dollars_per_hour", "Price of the nodes of a pool.", ["pool"], price)
        spend = head.journal.spend(steady_time())
        yield _gauge(
            "clusterctl_spend_dollars",
            "Spent on nodes.",
            ["period"],
            {("today",): spend.today, ("total",): spend.total},
        )
        yield _histogram("clusterctl_loop_late_seconds", f"{LATE}.", head.pulse.late)
        yield _histogram("clusterctl_loop_busy_seconds", f"{LATE} by its own computing.", head.pulse.busy)
        waiting = {(d.source,): 0.0 for d in head.autoscaler.demand}
        for demand in head.autoscaler.demand:
            waiting[(demand.source,)] += demand.count
        yield _gauge("clusterctl_demand", "Waiting demand by source.", ["source"], waiting)
        yield _histogram("clusterctl_plan_seconds", "Time to make a plan.", head.autoscaler.planning)


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    """Cumulative, as Prometheus wants it."""
    bounds = [*(f"{bound:g}" for bound in BOUNDS), "+Inf"]
    buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=histogram.seconds)


def _gauge(
    name: str, text: str, labels: list[str], values: dict[tuple[str, ...], float] | dict[tuple[str, str], float]
) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(list(key), value)
    return family


def metrics_text(head: Head) -> bytes:
    """In Prometheus' text format, of this moment."""
    registry = CollectorRegistry()
    registry.register(_Collector(head))
    return generate_latest(registry)
