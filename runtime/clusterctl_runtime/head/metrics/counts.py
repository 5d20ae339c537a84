"""What is counted as it happens, by whoever does it, from any thread."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client import Counter, Histogram, disable_created_metrics

from clusterctl.core.errors import AuthFailed, BadRequest, NoCapacity, QuotaExceeded, Throttled, UnknownOutcome
from clusterctl_runtime.head.metrics.table import ENTRIES

disable_created_metrics()  # when a counter was made is nobody's question, and would be one more series of each

_OUTCOMES = ("succeeded", "failed", "timeout", "cancelled", "lost", "preempted", "recalled")
_FAILURES = (
    "requested_too_long",
    "booting_too_long",
    "joining_too_long",
    "silent",
    "spot_interruption",
    "provider_interruption",
    "setup_failed",
)
_REFUSALS = [error.code for error in (NoCapacity, QuotaExceeded, Throttled, AuthFailed, BadRequest, UnknownOutcome)]
_CALLS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_WAITS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 1800, 3600, 4 * 3600, 12 * 3600, 24 * 3600)
_STARTS = (1, 2.5, 5, 10, 20, 30, 60, 90, 120, 180, 300, 600, 1200, 1800)


class Counts:
    """From the head's start on. Labels are of a set that does not grow: pools, markets, and codes of reasons."""

    def __init__(self) -> None:
        self.node_start = _histogram("clusterctl_node_start_seconds", _STARTS)
        self.node_failures = _counter("clusterctl_node_failures_total")
        self.job_wait = _histogram("clusterctl_job_wait_seconds", _WAITS)
        self.attempts = _counter("clusterctl_attempts_total")
        self.decisions = _counter("clusterctl_decisions_total")
        self.launches = _counter("clusterctl_launches_total")
        self.launch_refusals = _counter("clusterctl_launch_refusals_total")
        self.autoscaler_failures = _counter("clusterctl_autoscaler_failures_total")
        self.provider_call = _histogram("clusterctl_provider_call_seconds", _CALLS)
        self.provider_errors = _counter("clusterctl_provider_errors_total")

    def show_zeros(self, pools: Iterable[str], markets: Iterable[tuple[str, str]]) -> None:
        """What may be counted of these is told from the start: the rate of a series that begins with 1 is none. `markets`: (pool,
        market)."""
        for outcome in _OUTCOMES:
            self.attempts.labels(outcome)
        for pool in pools:
            self.node_start.labels(pool)
            self.job_wait.labels(pool)
            for reason in _FAILURES:
                self.node_failures.labels(pool, reason)
        for pool, market in markets:
            self.launches.labels(pool, market)
            for reason in _REFUSALS:
                self.launch_refusals.labels(pool, market, reason)

    def all(self) -> dict[str, Counter | Histogram]:
        """By name."""
        return {f"{one._name}_total" if isinstance(one, Counter) else one._name: one for one in vars(self).values()}


def _counter(name: str) -> Counter:
    entry = ENTRIES[name]
    return Counter(name, f"{entry.text}.", entry.labels, registry=None)


def _histogram(name: str, bounds: Sequence[float]) -> Histogram:
    entry = ENTRIES[name]
    return Histogram(name, f"{entry.text}.", entry.labels, registry=None, buckets=bounds)
