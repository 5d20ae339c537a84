"""What is kept over time of a cluster, counted in one look at its nodes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

from clusterctl.core.model import PENDING_STATES, NodeState, NodeView
from clusterctl.core.upkeep import JOINED_STATES
from clusterctl.provision.journal.book import Journal
from clusterctl.spec.to_core import core_limits
from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.config import HeadConfig
from clusterctl_runtime.head.jobs.book import JobBook
from clusterctl_runtime.head.nodes.census import NOT_PAID
from clusterctl_runtime.head.nodes.ledger import Ledger, NodeLedger
from clusterctl_runtime.head.nodes.roster import Roster
from clusterctl_runtime.head.turns import in_turns

FRESH_SECONDS = 60.0  # a machine's own figures count for so long


class Figures(NamedTuple):
    """`per_hour` in $/h, `budget_left` in dollars, memory in bytes. Of CPUs, GPUs and memory: what the nodes that have joined
    have, what jobs and Ray hold of it, and what is in use on the machines. None: not known, or there is none."""

    nodes_ready: float
    nodes_coming: float
    nodes_leaving: float
    nodes_stopped: float
    nodes_failed: float
    jobs_running: float
    jobs_queued: float
    per_hour: float
    budget_left: float | None
    cpu_total: float
    cpu_held: float
    cpu_used: float | None
    gpu_total: float
    gpu_held: float
    gpu_used: float | None
    memory_total: float
    memory_held: float
    memory_used: float | None


_STATES = {
    **dict.fromkeys(PENDING_STATES, "coming"),
    NodeState.READY: "ready",
    NodeState.STOPPED: "stopped",
    NodeState.FAILED: "failed",
    NodeState.QUARANTINED: "failed",
}  # the others leave


async def look(
    config: Callable[[], HeadConfig], roster: Roster, ledger: Ledger, book: JobBook, journal: Journal
) -> Figures:
    """The figures of now, counted a few nodes at a time."""
    now = steady_time()
    await roster.refreshed(now)
    sums: defaultdict[str, float] = defaultdict(float)
    machines: dict[tuple[Any, str], dict[str, float]] = {}
    async for part in in_turns(roster.all(now)):
        for view in part:
            _count(sums, view)
            if (books := ledger.get(view.node.id)) and now - books.use.get("at", 0.0) < FRESH_SECONDS:
                machines[_machine(books)] = books.use
    return Figures(
        nodes_ready=sums["ready"],
        nodes_coming=sums["coming"],
        nodes_leaving=sums["leaving"],
        nodes_stopped=sums["stopped"],
        nodes_failed=sums["failed"],
        jobs_running=book.counts["running"],
        jobs_queued=book.counts["queued"],
        per_hour=round(sums["per_hour"], 6),
        budget_left=_budget_left(config(), journal, now),
        cpu_total=sums["CPU"],
        cpu_held=sums["held CPU"],
        cpu_used=_used(machines, "cpu"),
        gpu_total=sums["GPU"],
        gpu_held=sums["held GPU"],
        gpu_used=_used(machines, "gpu"),
        memory_total=sums["memory"],
        memory_held=sums["held memory"],
        memory_used=_used(machines, "memory"),
    )


def _count(sums: defaultdict[str, float], view: NodeView) -> None:
    state = view.node.state
    sums[_STATES.get(state, "leaving")] += 1
    if state not in NOT_PAID:
        sums["per_hour"] += view.node.price
    if state in JOINED_STATES:
        for name in ("CPU", "GPU", "memory"):
            total = view.total.get(name)
            sums[name] += total
            sums[f"held {name}"] += total - view.free.get(name)


def _machine(books: NodeLedger) -> tuple[Any, str]:
    """Nodes that are processes of one machine all tell of the whole of it, which counts once."""
    return books.facts.get("hostname"), books.address


def _used(machines: dict[tuple[Any, str], dict[str, float]], name: str) -> float | None:
    known = [use[name] for use in machines.values() if name in use]
    return round(sum(known), 4) if known else None


def _budget_left(config: HeadConfig, journal: Journal, now: float) -> float | None:
    """In dollars, of the day or the month, whichever ends first; None where the spec has no budget."""
    limits, spend = core_limits(config.spec), journal.spend(now)
    pairs = ((limits.budget_per_day, spend.today), (limits.budget_per_month, spend.month))
    left = [max(0.0, budget - spent) for budget, spent in pairs if budget is not None]
    return round(min(left), 4) if left else None
