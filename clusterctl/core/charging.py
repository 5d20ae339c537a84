"""Whose dollars: the part of a node's price that a job pays while it holds its share of the node."""

from __future__ import annotations

from clusterctl.core.resources import Resources


def share_of(held: Resources, total: Resources) -> float:
    """The largest part of any resource of a node that is held (0 to 1): a job that takes the only GPU leaves nothing that
    another could be sold, however many CPUs are free."""
    amounts = total.units
    parts = [units / amounts[name] for name, units in held.items if amounts.get(name)]
    return min(1.0, max(parts, default=0.0))
