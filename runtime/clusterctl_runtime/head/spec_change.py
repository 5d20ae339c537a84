"""What a new spec would change of the one in force."""

from __future__ import annotations

from collections.abc import Sequence

from clusterctl.core import diff
from clusterctl.core.model import NodeView, Offer, Plan
from clusterctl.spec.model import ClusterSpec


def what_changes(
    old: ClusterSpec,
    new: ClusterSpec,
    nodes: Sequence[NodeView] = (),
    first: Plan | None = None,
    offers: Sequence[Offer] = (),
) -> diff.SpecPlan:
    """`nodes` are those of the cluster, `first` what the planner would do first under `new`, with these offers for its pools."""
    before, after = (spec.model_dump(mode="json", by_alias=True) for spec in (old, new))
    return diff.plan_spec(before, after, nodes, first, offers, new.kind.changes)
