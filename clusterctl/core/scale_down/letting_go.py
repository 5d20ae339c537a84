"""Which nodes to let go: idle ones, too many, those of an old spec, and those that the provider takes away.

Removal has two phases. A node is drained first; only when that is acknowledged, and nothing runs on it, is it ended.
The exceptions need no drain: a spot node at its deadline, and a node that never came up.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from clusterctl.core.model import (
    PENDING_STATES,
    Action,
    Drain,
    NodeState,
    NodeView,
    Policy,
    Pool,
    Reason,
    State,
    Terminate,
    Undrain,
)
from clusterctl.core.offers import LEAVES_BEFORE
from clusterctl.core.scale_down.stopping import WarmPools, stop

CAPACITY_BLOCK = "capacity-block"  # the market of nodes that the provider takes away on a day known beforehand
REVOCABLE = frozenset({"idle", "consolidation"})  # codes of drains that demand may call back
NOTICE_SLACK = 5.0  # seconds by which the times of one notice may differ
_OVER = frozenset({NodeState.TERMINATING, NodeState.FAILED, NodeState.STOPPING, NodeState.STOPPED})
_NEVER_UP = frozenset({NodeState.PLANNED, NodeState.REQUESTED, NodeState.BOOTING})


def draining(view: NodeView) -> bool:
    """Whether a drain was asked for, is acknowledged, or is on record."""
    return view.drain != "" or view.node.state is NodeState.DRAINING


def may_return(view: NodeView) -> bool:
    """Whether a drain may still be called back: not acknowledged, and asked for a reason that demand outweighs."""
    return (
        view.node.state is NodeState.DRAINING
        and view.drain == "requested"
        and view.preempt_at is None
        and view.node.code in REVOCABLE
    )


@dataclass
class ScaleDown:
    """The actions of letting go, and when to look again for its sake."""

    actions: list[Action] = field(default_factory=list[Action])
    wake: list[float] = field(default_factory=list[float])

    @property
    def ids(self) -> set[str]:
        """Ids of the nodes that have an action."""
        return {action.node_id for action in self.actions}


def plan_ends(views: Sequence[NodeView], complete: Mapping[str, bool], warm: WarmPools, now: float) -> ScaleDown:
    """Ends (or stops, where the pool keeps it) nodes whose drain is acknowledged and empty, and spot nodes at their
    deadline."""
    leaving = ScaleDown()
    for view in views:
        node = view.node
        if node.state in _OVER or not complete.get(node.id, False):
            continue
        if view.preempt_at is not None and view.preempt_at <= now:
            reason = node.offer.taken_back("deadline", "the provider takes this node away now")
            leaving.actions.append(Terminate(node.id, node.instance_id, reason))
        elif node.state is NodeState.DRAINING and view.drain == "acked" and not view.work:
            reason = Reason(node.code or "drained", node.reason or "it is drained and empty")
            end = Terminate(node.id, node.instance_id, reason)
            leaving.actions.append(stop(view) if warm.take(view) else end)
    return leaving


def plan_overdue(views: Sequence[NodeView], complete: Mapping[str, bool], now: float) -> ScaleDown:
    """Ends what was drained with a deadline once that has passed, whatever still runs there."""
    leaving = ScaleDown()
    for view in views:
        node = view.node
        if node.state is not NodeState.DRAINING or node.drain_by is None:
            continue
        if now < node.drain_by:
            leaving.wake.append(node.drain_by)
        elif complete.get(node.id, False):
            text = f"{node.reason or 'it drains'}; that time is over"
            leaving.actions.append(Terminate(node.id, node.instance_id, Reason(node.code or "drained", text)))
    return leaving


def plan_notices(views: Sequence[NodeView], now: float) -> ScaleDown:
    """Drains spot nodes that the provider announced to take away; work that still runs at the deadline is killed. A drain that
    would have ended later gets the provider's deadline."""
    leaving = ScaleDown()
    for view in views:
        if view.preempt_at is None or view.preempt_at <= now:
            continue
        leaving.wake.append(view.preempt_at)
        if view.node.state in (NodeState.JOINING, NodeState.READY, NodeState.DRAINING) and _leaves_later(view):
            left = f"in {view.preempt_at - now:.0f} s"
            reason = view.node.offer.taken_back("notice", f"the provider takes this node away {left}")
            if _by_calendar(view):
                reason = Reason("capacity_ends", f"its capacity block ends {left}")
            leaving.actions.append(Drain(view.node.id, reason, view.preempt_at))
    return leaving


def _leaves_later(view: NodeView) -> bool:
    """Whether it does not drain yet, or with a deadline after the one that the provider has set; told twice, that may differ by
    moments."""
    if not draining(view):
        return True
    by = view.node.drain_by
    return view.drain == "requested" and (by is None or by > (view.preempt_at or 0.0) + NOTICE_SLACK)


def _by_calendar(view: NodeView) -> bool:
    return view.preempt_at is not None and view.preempt_at == view.node.offer.ends


def with_endings(state: State, now: float) -> State:
    """Nodes of a capacity block that is about to end, as if the provider had given notice."""
    return replace(state, nodes=tuple(_with_ending(view, now) for view in state.nodes))


def _with_ending(view: NodeView, now: float) -> NodeView:
    offer = view.node.offer
    if offer.market != CAPACITY_BLOCK or not offer.ends or offer.ends - LEAVES_BEFORE > now:
        return view
    return replace(view, preempt_at=offer.ends if view.preempt_at is None else min(view.preempt_at, offer.ends))


def plan_endings(views: Sequence[NodeView], now: float) -> ScaleDown:
    """Drains nodes whose reservation ends: they would cost from then on. What runs on them may end in peace."""
    leaving = ScaleDown()
    for view in views:
        ends = view.node.offer.ends
        if not ends:
            continue
        leaving.wake += [ends - LEAVES_BEFORE, ends]
        ripe = view.preempt_at is None and ends - LEAVES_BEFORE <= now and not draining(view)
        if ripe and view.node.state in (NodeState.JOINING, NodeState.READY):
            leaving.actions.append(Drain(view.node.id, Reason("capacity_ends", "its reserved capacity ends")))
    return leaving


def plan_returns(views: Sequence[NodeView], wanted: Mapping[str, str]) -> list[Action]:
    """Calls back draining nodes that demand was packed onto; `wanted` maps node id to what for."""
    return [
        Undrain(view.node.id, Reason("wanted_again", f"{wanted[view.node.id]} wants it before its drain was done"))
        for view in views
        if view.node.id in wanted and may_return(view)
    ]


@dataclass
class Headroom:
    """Counts of nodes that stay, per pool, so that letting go never cuts below min."""

    pools: dict[str, Pool]
    staying: dict[str, int] = field(default_factory=dict[str, int])

    @classmethod
    def of(cls, state: State, views: Sequence[NodeView], leaving: Collection[str]) -> Headroom:
        """`leaving` are ids of nodes that go already; those that drain, fail or are taken away do not count either."""
        self = cls({pool.name: pool for pool in state.pools})
        for view in views:
            up = view.node.state in PENDING_STATES or view.node.state is NodeState.READY
            if up and not draining(view) and view.preempt_at is None and view.node.id not in leaving:
                self.staying[view.node.pool] = self.staying.get(view.node.pool, 0) + 1
        return self

    def least(self, pool: str) -> int:
        """The pool's min; 0 for a pool that the spec no longer has."""
        return self.pools[pool].min if pool in self.pools else 0

    def spare(self, pool: str) -> int:
        """How many nodes above min stay; below 0 where min is not reached."""
        return self.staying.get(pool, 0) - self.least(pool)

    def excess(self, pool: str) -> int:
        """How many nodes above max stay; all of a pool that the spec no longer has."""
        return self.staying.get(pool, 0) - (self.pools[pool].max if pool in self.pools else 0)

    def remove(self, pool: str) -> None:
        """One node fewer stays."""
        self.staying[pool] -= 1


def plan_idle(views: Sequence[NodeView], used: Collection[str], headroom: Headroom, now: float) -> ScaleDown:
    """Drains what has been idle for its pool's time-out and is not wanted; the dearest and longest idle first."""
    leaving = ScaleDown()
    idle = [
        view
        for view in views
        if view.node.state is NodeState.READY
        and view.node.role == "worker"
        and view.idle_since is not None
        and not view.work
        and not draining(view)
        and view.preempt_at is None
        and view.node.id not in used
        and view.node.pool in headroom.pools
    ]
    idle.sort(key=lambda v: (-v.node.offer.price, v.idle_since or 0.0, v.node.id))
    for view in idle:
        pool = headroom.pools[view.node.pool]
        since = view.idle_since if view.idle_since is not None else now
        if headroom.spare(pool.name) <= 0:
            continue
        ends = since + pool.idle_timeout
        if now < ends:  # the very sum that is waited for: now - since may round to another side
            leaving.wake.append(ends)
            continue
        headroom.remove(pool.name)
        text = f"idle for {now - since:.0f} s, the pool's idle_timeout is {pool.idle_timeout:.0f} s"
        leaving.actions.append(Drain(view.node.id, Reason("idle", text)))
    return leaving


def plan_over_max(views: Sequence[NodeView], headroom: Headroom, complete: Mapping[str, bool]) -> ScaleDown:
    """Lets go of nodes above a pool's max, or of a pool that the spec no longer has: nodes that never came up first,
    then idle ones, then the least busy."""
    leaving = ScaleDown()
    for pool in sorted(headroom.staying):
        excess = headroom.excess(pool)
        if excess <= 0:
            continue
        known = pool in headroom.pools
        code = "over_max" if known else "pool_removed"
        text = f"pool {pool} may have {headroom.pools[pool].max} nodes" if known else f"the spec has no pool {pool} now"
        candidates = [v for v in views if v.node.pool == pool and may_go(v, complete)]
        candidates.sort(key=lambda v: (effort(v), -v.node.created, v.node.id))
        for view in candidates[:excess]:
            headroom.remove(pool)
            leaving.actions.append(let_go(view, Reason(code, text)))
    return leaving


def plan_spec_changes(
    policy: Policy, views: Sequence[NodeView], headroom: Headroom, complete: Mapping[str, bool], disturbed: int
) -> ScaleDown:
    """Drains nodes that were made from an older spec, as many at a time as the disruption budget has left; idle nodes
    above min are not counted, since nobody notices."""
    leaving = ScaleDown()
    stale = [
        view
        for view in views
        if view.node.pool in headroom.pools
        and may_go(view, complete)
        and view.node.spec_hash
        not in ("", headroom.pools[view.node.pool].spec_hash)  # "": nobody knows what it was made of
    ]
    stale.sort(key=lambda v: (effort(v), v.node.created, v.node.id))
    for view in stale:
        unnoticed = not view.work and headroom.spare(view.node.pool) > 0
        if not unnoticed:
            if disturbed >= policy.disruption_budget:
                continue
            disturbed += 1
        headroom.remove(view.node.pool)
        reason = Reason("spec_changed", f"pool {view.node.pool} has changed since this node was made")
        leaving.actions.append(let_go(view, reason))
    return leaving


def may_go(view: NodeView, complete: Mapping[str, bool]) -> bool:
    """A worker that nothing else takes away already; one that never came up only where the observation is complete,
    since it is ended at once."""
    state = view.node.state
    up = state is NodeState.READY or state in PENDING_STATES
    sure = state not in _NEVER_UP or complete.get(view.node.id, False)
    return up and sure and view.node.role == "worker" and not draining(view) and view.preempt_at is None


def let_go(view: NodeView, reason: Reason) -> Action:
    """A node without an agent cannot run anything: it is ended at once. Any other is drained."""
    if view.node.state in _NEVER_UP:
        return Terminate(view.node.id, view.node.instance_id, reason)
    return Drain(view.node.id, reason)


def effort(view: NodeView) -> tuple[int, int]:
    """How much letting go would disturb: never up, joining, idle, then by the amount of work."""
    order = 0 if view.node.state in _NEVER_UP else 1 if view.node.state is NodeState.JOINING else 2
    return (order, 0) if not view.work else (3, len(view.work))
