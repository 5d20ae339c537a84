"""Warm pools: pools that keep nodes stopped. Which drained nodes are stopped instead of ended, and which stopped ones are
too many.

A stopped node costs its disk only, and is back sooner than a new one: what it fetched and set up is still there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from clusterctl.core.model import Action, NodeState, NodeView, Pool, Reason, Stop, Terminate

_WARM = frozenset({NodeState.STOPPING, NodeState.STOPPED})
_STOPPABLE = "on-demand"  # spot instances end when they are stopped, and reserved ones give their place away


def is_current(view: NodeView, pools: Mapping[str, Pool]) -> bool:
    """Whether the spec still makes nodes like this one; as everywhere, an unknown hash is no changed one."""
    pool = pools.get(view.node.pool)
    return pool is not None and view.node.spec_hash in ("", pool.spec_hash)


@dataclass
class WarmPools:
    """How many more nodes each pool keeps stopped; `take` uses it up."""

    pools: Mapping[str, Pool]
    count: dict[str, int] = field(default_factory=dict[str, int])

    @classmethod
    def of(cls, pools: Sequence[Pool], views: Sequence[NodeView]) -> WarmPools:
        """Counts nodes that are stopped, or about to be."""
        self = cls({pool.name: pool for pool in pools})
        for view in views:
            if view.node.state in _WARM:
                self.count[view.node.pool] = self.count.get(view.node.pool, 0) + 1
        return self

    def take(self, view: NodeView) -> bool:
        """Whether a drained node is kept: nobody wanted it, but it is as good as a new one."""
        node = view.node
        pool = self.pools.get(node.pool)
        if pool is None or not is_current(view, self.pools):
            return False
        if (
            node.offer.market != _STOPPABLE
            or node.code != "idle"
            or view.preempt_at is not None
            or not node.instance_id
        ):
            return False
        if self.count.get(node.pool, 0) >= pool.keep_stopped:
            return False
        self.count[node.pool] = self.count.get(node.pool, 0) + 1
        return True


def stop(view: NodeView) -> Stop:
    """The action, with the reason for which the node was drained."""
    return Stop(view.node.id, view.node.instance_id, Reason("idle", view.node.reason or "nothing wants it now"))


def plan_stopped(views: Sequence[NodeView], pools: Sequence[Pool], complete: Mapping[str, bool]) -> list[Action]:
    """Ends stopped nodes that no start will ever take: of an older spec, of a pool that is gone, or more than are kept;
    those that were stopped first go first."""
    by_name = {pool.name: pool for pool in pools}
    stopped = sorted(
        (v for v in views if v.node.state is NodeState.STOPPED and complete.get(v.node.id, False)),
        key=lambda v: (v.node.since, v.node.id),
        reverse=True,
    )
    warm = {name: sum(v.node.state is NodeState.STOPPING and v.node.pool == name for v in views) for name in by_name}
    actions: list[Action] = []
    for view in stopped:
        node = view.node
        pool = by_name.get(node.pool)
        if pool is None:
            reason = Reason("pool_removed", f"the spec has no pool {node.pool} now")
        elif not is_current(view, by_name):
            reason = Reason("spec_changed", f"pool {node.pool} has changed since this node was made")
        elif warm[pool.name] >= pool.keep_stopped:
            reason = Reason("over_keep_stopped", f"pool {pool.name} keeps {pool.keep_stopped} nodes stopped")
        else:
            warm[pool.name] += 1
            continue
        actions.append(Terminate(node.id, node.instance_id, reason))
    return actions
