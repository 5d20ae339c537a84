"""Records against observation and time: what runs, what is gone, what outstayed its deadline, what belongs to nobody.

Nothing destructive is decided in a scope whose observation is incomplete, nor about an instance without our uid.
A node's scope is where its instance was seen, else the scope named like its region or zone, else the only one there is;
when that leaves a doubt, every scope must be complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from clusterctl.core.errors import NotYet
from clusterctl.core.lifecycle import deadline
from clusterctl.core.model import (
    PENDING_STATES,
    STARTING,
    Action,
    Instance,
    Mark,
    Node,
    NodeState,
    NodeView,
    Observed,
    Policy,
    Pool,
    Reason,
    State,
    Terminate,
)

JOINED_STATES = frozenset({NodeState.JOINING, NodeState.READY, NodeState.DRAINING})  # an agent has dialled in
ANY_POOL = Pool("", "", 0, 0)  # for nodes whose pool has left the spec
ABSENT = "absent:"  # prefix of a node id in State.sightings; other keys are instance ids
_UNSURE = frozenset({NodeState.PLANNED, NodeState.REQUESTED})  # the provider's list may lag behind a launch


@dataclass
class Survey:
    """What the observation says about each record. `instances` by node id; `orphans` have our uid and no record."""

    instances: dict[str, Instance] = field(default_factory=dict[str, Instance])
    orphans: list[tuple[Instance, Observed]] = field(default_factory=list[tuple[Instance, Observed]])
    complete: dict[str, bool] = field(default_factory=dict[str, bool])  # node id: may something destructive be decided?
    seen_at: dict[str, float] = field(default_factory=dict[str, float])  # node id: when its scope was looked at


def survey(observed: Sequence[Observed], state: State) -> Survey:
    """Matches instances to records by instance id, else by node id and generation."""
    result = Survey()
    live = [view for view in state.nodes if view.node.state is not NodeState.GONE]
    by_instance = {view.node.instance_id: view for view in live if view.node.instance_id}
    by_intent = {(view.node.id, view.node.generation): view for view in live if not view.node.instance_id}
    places: dict[str, Observed] = {}
    for scope in observed:
        ours = [i for i in scope.instances if i.uid == state.uid]
        for instance in sorted(ours, key=lambda i: (i.state == "terminated", i.created, i.id)):
            view = by_instance.get(instance.id) or by_intent.get((instance.node_id, instance.generation))
            if view is not None and view.node.id not in result.instances:
                result.instances[view.node.id] = instance
                places[view.node.id] = scope
            elif instance.state != "terminated":
                result.orphans.append((instance, scope))
    for view in live:
        scopes = _scopes_of(view, observed, places)
        known = all(scope.complete or scope.recorded for scope in scopes)
        result.complete[view.node.id] = bool(scopes) and known
        result.seen_at[view.node.id] = min((scope.at for scope in scopes), default=0.0)
    return result


def _scopes_of(view: NodeView, observed: Sequence[Observed], places: dict[str, Observed]) -> Sequence[Observed]:
    found = places.get(view.node.id)
    if found is not None:
        return [found]
    offer = view.node.offer
    named = [scope for scope in observed if scope.scope in (offer.region, offer.zone)]
    return named if len(named) == 1 else observed


def count_sightings(state: State, observed: Sequence[Observed]) -> tuple[tuple[str, int], ...]:
    """`State.sightings` after one more observation: the shell calls this once for each new one, before it plans.

    Counts how many times running an instance was seen without owner, or a node was looked for in vain. Keys of scopes
    that were not read whole stay as they are."""
    found = survey(observed, state)
    before = dict(state.sightings)
    after: dict[str, int] = {}
    for instance, scope in found.orphans:
        after[instance.id] = before.get(instance.id, 0) + (1 if scope.complete else 0)
    for view in state.nodes:
        key = ABSENT + view.node.id
        if not _missing(view, found):
            if not found.complete.get(view.node.id, True) and key in before:
                after[key] = before[key]
        else:
            after[key] = before.get(key, 0) + 1
    if not all(scope.complete for scope in observed):
        for key, n in before.items():
            if not key.startswith(ABSENT):
                after.setdefault(key, n)
    return tuple(sorted((key, n) for key, n in after.items() if n))


def _missing(view: NodeView, found: Survey) -> bool:
    """A complete list, made after the node entered its state, does not show it."""
    node = view.node
    return (
        node.state not in (NodeState.GONE, NodeState.QUARANTINED)
        and node.id not in found.instances
        and found.complete[node.id]
        and found.seen_at[node.id] > node.since
    )


def plan_upkeep(policy: Policy, found: Survey, state: State, now: float) -> list[Action]:
    """Marks and terminations that follow from what is, whatever is wanted. At most one action per node."""
    pools = {pool.name: pool for pool in state.pools}
    actions: list[Action] = []
    for view in sorted(state.nodes, key=lambda v: v.node.id):
        if view.node.state in (NodeState.GONE, NodeState.QUARANTINED):
            continue
        action = _node_upkeep(policy, view, found, state, pools.get(view.node.pool), now)
        if action is not None:
            actions.append(action)
    return actions + _reap(policy, found, state, now)


def _node_upkeep(
    policy: Policy, view: NodeView, found: Survey, state: State, pool: Pool | None, now: float
) -> Action | None:
    node = view.node
    instance = found.instances.get(node.id)
    if instance is not None and instance.state == "terminated":
        return _end_by_provider(node, instance) if found.complete[node.id] else None
    if instance is None and _is_gone(policy, view, found, state):
        return Mark(node.id, "gone", Reason("instance_gone", f"the provider no longer lists it ({node.state.value})"))
    if node.state is NodeState.FAILED:
        return _end_failed(view, instance, found)
    queued = instance is not None and instance.queued  # its turn comes when it comes
    overdue = None if queued and node.state is NodeState.REQUESTED else _overdue(view, pool, now)
    if node.state is NodeState.TERMINATING:
        if overdue is not None and found.complete[node.id]:
            return Terminate(node.id, node.instance_id or (instance.id if instance else ""), overdue)
        return None
    if instance is not None and instance.state in ("stopping", "stopped") and overdue is None:
        return _stopped(node, instance)
    lost = _lost(view, pool, now)
    if overdue is not None or lost is not None:
        return Mark(node.id, "fail", overdue or lost or Reason("failed", ""))
    return _progress(view, instance)


def _end_by_provider(node: Node, instance: Instance) -> Mark:
    """A machine that never came up is a failed launch, and counts as one; any other is just gone."""
    if instance.reclaimed:
        text = f"the provider took {instance.id} away ({node.state.value}){_words(instance)}"
        return Mark(node.id, "gone", node.offer.taken_back("interruption", text))
    text = f"the provider ended {instance.id} ({node.state.value}){_words(instance)}"
    if instance.refused and node.state in PENDING_STATES:
        return Mark(node.id, "fail", Reason(instance.refused, text))
    return Mark(node.id, "gone", Reason("instance_ended", text))


def _words(instance: Instance) -> str:
    return f": {instance.detail}" if instance.detail else ""


def _stopped(node: Node, instance: Instance) -> Action | None:
    """Its instance does not run: as we meant it, or since somebody else stopped it."""
    if node.state is NodeState.STOPPING and instance.state == "stopped":
        return Mark(
            node.id,
            "stopped",
            Reason("stopped", "it is kept stopped, and started again when it is wanted"),
            instance.id,
        )
    meant = node.state in (NodeState.STOPPING, NodeState.STOPPED)
    if meant or (node.state is NodeState.REQUESTED and node.code == STARTING):
        return None
    text = f"its instance {instance.id} is {instance.state}{_words(instance)}"
    if instance.reclaimed:
        return Mark(node.id, "fail", node.offer.taken_back("interruption", text))
    code = (node.state in PENDING_STATES and instance.refused) or "instance_stopped"
    return Mark(node.id, "fail", Reason(code, text))


def _is_gone(policy: Policy, view: NodeView, found: Survey, state: State) -> bool:
    """Absence counts at once where the end was asked for or the launch failed, after two looks elsewhere, and not at
    all while the provider's list may lag behind a launch."""
    node = view.node
    if not _missing(view, found) or node.state in _UNSURE:
        return False
    if node.state is NodeState.TERMINATING or (node.state is NodeState.FAILED and not node.instance_id):
        return True
    return dict(state.sightings).get(ABSENT + node.id, 0) >= 2


def _end_failed(view: NodeView, instance: Instance | None, found: Survey) -> Action | None:
    node = view.node
    if not found.complete[node.id]:
        return None
    known = node.instance_id or (instance.id if instance else "")
    if not known:
        return None  # nothing to end yet: it is gone as soon as a list made after the failure does not show it
    return Terminate(node.id, known, Reason(node.code or "failed", node.reason or "it failed"))


def _overdue(view: NodeView, pool: Pool | None, now: float) -> Reason | None:
    node = view.node
    limit = deadline(pool or Pool(node.pool, "", 0, 0), node.state)
    if limit is None or now - node.since <= limit or node.code == NotYet.code:  # its provider says that it is at work
        return None
    return Reason(f"{node.state.value}_too_long", f"{node.state.value} for more than {limit:.0f} s")


def _lost(view: NodeView, pool: Pool | None, now: float) -> Reason | None:
    """A joined node that was silent for so long that it has ended itself by now."""
    if view.heartbeat is None or view.node.state not in JOINED_STATES:
        return None
    limit = (pool or ANY_POOL).dead_after
    if now - view.heartbeat <= limit:
        return None
    return Reason("silent", f"no sign of life for more than {limit:.0f} s, so it has shut itself down")


def unheard(limit: float) -> Reason:
    """What is to be said of a joined node whose agent is not connected: it may still be at work, so it is left in peace for
    `limit` seconds of silence."""
    text = (
        "its agent is not connected: it gets no new work, and after "
        f"{limit:.0f} s of silence it counts as ended, and what it ran is tried again"
    )
    return Reason("unheard", text, "look at its machine and its network; end the machine to give it up at once")


def _progress(view: NodeView, instance: Instance | None) -> Action | None:
    node = view.node
    if instance is None:
        return None
    known = node.instance_id == instance.id and (node.address != "" or not instance.address)
    booting = node.state is NodeState.BOOTING and not known
    if instance.state == "running" and (node.state in _UNSURE or node.state is NodeState.STOPPED or booting):
        reason = Reason("instance_running", f"the provider shows {instance.id} running")
        return Mark(node.id, "running", reason, instance.id, instance.address)
    if instance.state == "pending" and node.state in _UNSURE and (not known or node.state is NodeState.PLANNED):
        reason = Reason("instance_pending", f"the provider shows {instance.id} starting{_words(instance)}")
        return Mark(node.id, "requested", reason, instance.id, instance.address)
    return None


def _reap(policy: Policy, found: Survey, state: State, now: float) -> list[Action]:
    """Ends instances of ours that no record explains: seen often enough, old enough, silent, in a scope read whole."""
    seen = dict(state.sightings)
    alive = {
        view.node.instance_id or (view.node.id, view.node.generation)
        for view in state.nodes
        if view.heartbeat is not None and now - view.heartbeat <= policy.heartbeat_timeout
    }
    actions: list[Action] = []
    for instance, scope in sorted(found.orphans, key=lambda pair: pair[0].id):
        times = seen.get(instance.id, 0)
        if not scope.complete or times < policy.orphan_sightings or now - instance.created < policy.orphan_min_age:
            continue
        if instance.id in alive or (instance.node_id, instance.generation) in alive:
            continue
        text = f"it carries this cluster's uid but no record explains it (seen {times} times)"
        actions.append(Terminate("", instance.id, Reason("orphan", text)))
    return actions
