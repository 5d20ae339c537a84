"""What a new spec would change of the one in force."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clusterctl.core import diff
from clusterctl.core.model import NodeView, Offer, Plan
from clusterctl.spec.model import ClusterSpec
from clusterctl.spec.providers.registry import KINDS


def what_changes(
    old: ClusterSpec,
    new: ClusterSpec,
    nodes: Sequence[NodeView] = (),
    first: Plan | None = None,
    offers: Sequence[Offer] = (),
) -> diff.SpecPlan:
    """`nodes` are those of the cluster, `first` what the planner would do first under `new`, with these offers for its pools."""
    lasting = [name for name in new.providers if name in old.providers and name != new.provider_name]
    ways: dict[str, diff.Way] = {
        f"provider.{name}.{key}": way for name in lasting for key, way in KINDS[name].changes.items()
    }
    before, after = (_fields(spec, lasting) for spec in (old, new))
    return diff.plan_spec(before, after, nodes, first, offers, new.kind.changes, ways)


def _fields(spec: ClusterSpec, lasting: Sequence[str]) -> dict[str, Any]:
    """Of the cluster's, too, the settings of providers that pools have named before and name still; a pool has the name."""
    fields = spec.model_dump(mode="json", by_alias=True)
    for pool, data in zip(spec.pools, fields["pools"], strict=True):
        data["provider"] = spec.kind_of(pool).name
    settings = {f"provider.{name}.{key}": value for name in lasting for key, value in spec.providers[name].items()}
    return {**fields, **settings}
