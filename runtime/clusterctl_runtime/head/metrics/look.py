"""The figures of this moment, read from the head's books a few at a time, so that nobody waits for the loop meanwhile."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from clusterctl.core.model import PENDING_STATES, NodeView
from clusterctl.core.upkeep import JOINED_STATES
from clusterctl_runtime.head.clock import steady_time
from clusterctl_runtime.head.jobs.charges import user_of
from clusterctl_runtime.head.metrics.table import ENTRIES, OTHERS
from clusterctl_runtime.head.nodes.census import NOT_PAID
from clusterctl_runtime.head.turns import in_turns

if TYPE_CHECKING:
    from clusterctl_runtime.head.head import Head
    from clusterctl_runtime.head.nodes.ledger import NodeLedger

FRESH_SECONDS = 60.0  # an agent's figures count for so long
MOST_USERS = 100


class Machine(NamedTuple):
    """A node with what its agent has told; {} where that is old, or nothing."""

    view: NodeView
    address: str
    heard: float | None  # unix seconds
    figures: dict[str, Any]


class Sheet:
    """Values by metric and labels."""

    def __init__(self) -> None:
        self.values: dict[str, dict[tuple[str, ...], float]] = {name: {} for name in ENTRIES}
        self.machines: list[Machine] = []

    def set(self, name: str, value: float, *labels: str) -> None:
        """In place of an earlier one with these labels."""
        self.values[f"clusterctl_{name}"][labels] = value

    def add(self, name: str, value: float, *labels: str) -> None:
        """To what there is with these labels."""
        values = self.values[f"clusterctl_{name}"]
        values[labels] = values.get(labels, 0.0) + value

    def least(self, name: str, value: float, *labels: str) -> None:
        """Unless there is a lesser one with these labels."""
        values = self.values[f"clusterctl_{name}"]
        values[labels] = min(values.get(labels, value), value)


class Users:
    """The labels of users: the first `MOST_USERS` that are seen have their own. They keep them, so that no sum falls."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def label(self, user: str) -> str:
        """Its own, or that of all others."""
        if user not in self._known and len(self._known) < MOST_USERS:
            self._known.add(user)
        return user if user in self._known else OTHERS


async def look(head: Head, users: Users) -> Sheet:
    """What is not on the sheet, `render` finds out in its thread."""
    sheet, now = Sheet(), steady_time()
    await head.fleet.roster.refreshed(now)
    async for part in in_turns(head.fleet.roster.all(now)):
        for view in part:
            _count_node(sheet, view, head.ledger.get(view.node.id), now)
    await _count_money(sheet, head, users, now)
    await _count_queue(sheet, head)
    for demand in head.autoscaler.demand:
        sheet.add("demand", demand.count, demand.source)
    await _name_jobs(sheet, head)
    return sheet


def _count_node(sheet: Sheet, view: NodeView, books: NodeLedger | None, now: float) -> None:
    node = view.node
    sheet.add("nodes", 1, node.pool, node.offer.market, node.state.value)
    if node.state not in NOT_PAID:
        sheet.add("price_dollars_per_hour", node.price, node.pool)
    if node.state in PENDING_STATES:
        sheet.least("oldest_launch_timestamp_seconds", node.created, node.pool)
    if books is None or node.state not in JOINED_STATES:
        return
    sheet.add("nodes_disconnected", not books.connected, node.pool)
    figures: dict[str, Any] = {}
    if now - books.figures.get("at", 0.0) < FRESH_SECONDS:
        here = {task.split("/")[0] for task in books.holdings}  # what has ended since is not told any more
        jobs = {job: told for job, told in books.figures["jobs"].items() if job in here}
        figures = {**books.figures, "jobs": jobs}
    sheet.machines.append(Machine(view, books.address, books.heard, figures))


async def _count_money(sheet: Sheet, head: Head, users: Users, now: float) -> None:
    spent = head.work.charges.by_user
    for user in sorted(spent, key=lambda user: -spent[user]):
        sheet.add("user_spend_dollars_total", spent[user], users.label(user))
    async for part in in_turns(list(head.book.running.values())):
        for job in part:
            if attempt := job.attempt:
                user, rate = users.label(user_of(job)), sum(attempt.rates)
                sheet.add("user_price_dollars_per_hour", rate, user)
                sheet.add("user_spend_dollars_total", rate * max(0.0, now - attempt.started) / 3600, user)


async def _count_queue(sheet: Sheet, head: Head) -> None:
    book = head.book
    for state in ("queued", "running", "succeeded", "failed", "cancelled"):
        sheet.set("jobs", book.counts[state], state)
    left = book.counts["queued"]
    for reason, count in (Counter(starting=len(book.starting)) + book.gate.reasons + book.waiting).items():
        told = min(count, left)  # a plan may have seen jobs that have started since
        left -= told
        sheet.set("queue_jobs", told, reason)
    sheet.set("queue_jobs", left, "undecided")
    async for lines in in_turns(list(book.groups.values())):
        for line in lines:
            if line:
                sheet.least("queue_oldest_timestamp_seconds", line.first.queued_since)


async def _name_jobs(sheet: Sheet, head: Head) -> None:
    """Of jobs of which agents tell what they use."""
    async for part in in_turns(sheet.machines):
        for job_id in {job_id for machine in part for job_id in machine.figures.get("jobs", ())}:
            if job := head.book.jobs.get(job_id):
                sheet.set("job_info", 1, job_id, job.name, user_of(job))
