"""When a node is paid for: from the call that may have made it to its end, and not while it is stopped."""

from __future__ import annotations

from dataclasses import replace

from clusterctl.core.model import NodeState
from clusterctl.provision.costs import Meter, per_day
from clusterctl.provision.journal.records import Record


def billed(record: Record, now: float) -> Record:
    """Billing starts when the provider was called with an unknown or good outcome, and ends when the node is gone. It
    rests while the node is stopped."""
    node = record.node
    if node.state is NodeState.GONE:
        return replace(record, billed_to=now)
    if node.state is NodeState.STOPPED:
        return replace(record, billed_from=None, paid=_paid(record, now))
    if record.billed_from is None and (node.instance_id or node.state is NodeState.REQUESTED):
        return replace(record, billed_from=now)
    return record


def _paid(record: Record, now: float) -> tuple[tuple[int, float], ...]:
    """What was paid for so far, by day: a node may be stopped and started any number of times."""
    days = dict(record.paid)
    if record.billed_from is not None:
        for day, seconds in per_day(record.billed_from, now):
            days[day] = days.get(day, 0.0) + seconds
    return tuple(sorted(days.items()))


def count(meter: Meter, before: Record | None, after: Record) -> None:
    """Brings the meter from one record of a node to its next: a stay that has begun or ended, and those paid for before."""
    node = after.node
    pool, price = node.pool, node.offer.price
    if before is not None and before.node.generation != node.generation:  # replaced by one that was found by its tags
        if meter.runs(node.id):
            meter.end(node.id, node.created)
        before = None
    if before is None:
        for day, seconds in after.paid:
            meter.add_part(pool, price, day, seconds)
    runs = after.billed_from is not None and node.state is not NodeState.GONE
    if meter.runs(node.id) and not runs:
        meter.end(node.id, after.billed_to or node.since)
    elif not meter.runs(node.id) and after.billed_from is not None and (runs or before is None):
        meter.begin(node.id, pool, price, after.billed_from)
        if not runs:
            meter.end(node.id, after.billed_to or after.billed_from)
