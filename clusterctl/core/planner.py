"""plan(): what to launch, drain and end, and why everything else waits.

The order of thought: what the records need (upkeep), what min asks for, what standing requests ask for, then demand:
onto free capacity, onto nodes that may be called back or are coming up, and last onto new offers. Then what may go.
Equal inputs give equal plans: every collection is walked in a sorted order, and nothing reads a clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from clusterctl.core.lifecycle import deadline, next_state
from clusterctl.core.minimum import keep_minimum
from clusterctl.core.model import (
    LIVE_STATES,
    Action,
    Demand,
    Drain,
    Launch,
    Mark,
    NodeState,
    NodeView,
    Observed,
    Offer,
    Plan,
    Policy,
    Shape,
    Start,
    State,
    Stop,
    Terminate,
)
from clusterctl.core.scale_down.consolidation import plan_consolidation
from clusterctl.core.scale_down.letting_go import (
    Headroom,
    ScaleDown,
    draining,
    plan_endings,
    plan_ends,
    plan_idle,
    plan_notices,
    plan_over_max,
    plan_overdue,
    plan_returns,
    plan_spec_changes,
    with_endings,
)
from clusterctl.core.scale_down.overrun import plan_overruns
from clusterctl.core.scale_down.stopping import WarmPools, plan_stopped
from clusterctl.core.scheduling.demand import STANDING
from clusterctl.core.scheduling.matching import Matching
from clusterctl.core.scheduling.reservations import next_reservations, reserved_nodes
from clusterctl.core.upkeep import JOINED_STATES, Survey, plan_upkeep, survey
from clusterctl.core.users import admit


def plan(
    policy: Policy,
    observed: tuple[Observed, ...],
    state: State,
    demand: tuple[Demand, ...],
    offers: tuple[Offer, ...],
    now: float,
) -> Plan:
    """The whole decision for one moment. `now` is on the clock of all times in `state` and `observed`, and `demand` in the
    order of the queue: starving requests reserve nodes in that order."""
    state = with_endings(state, now)
    scene = _look(policy, observed, state, now)
    _let_go_whatever_is_wanted(scene)
    away = set[str]().union(*(part.ids for part in scene.leaving))
    staying = [view for view in scene.rest if view.node.id not in away]
    reserved = reserved_nodes(demand, state.nodes, now, policy.heartbeat_timeout)
    matching = Matching(policy, state, staying, scene.live, offers, now, reserved)
    _serve(scene, matching, demand)
    returns = plan_returns(scene.untouched(), matching.wanted_back())
    _let_go_what_is_not_wanted(scene, matching)
    actions: list[Action] = [*scene.upkeep, *returns]
    for part in scene.leaving:
        actions.extend(part.actions)
    actions.extend(matching.candidates.launches())
    wake = [at for part in scene.leaving for at in part.wake] + matching.wake + next_reservations(demand, now)
    wake += _deadlines(policy, state, _as_planned(scene.live, actions, now), now)
    return Plan(
        actions=tuple(actions),
        waits=tuple(matching.waits),
        passed_over=tuple(matching.passed_over()),
        wake_at=min((at for at in wake if at > now), default=None),
        price_before=round(sum(view.node.price for view in scene.views), 6),
        price_after=round(_price_after(scene.views, actions), 6),
        kept=matching.kept(),
    )


@dataclass
class _Scene:
    """What is known once records are compared with the observation.

    `views` are all nodes on record, `live` those not found to be gone, `rest` those that upkeep leaves in their life.
    `touched` have an action already: one per node and plan, since what comes next can wait for the next plan.
    """

    policy: Policy
    state: State
    now: float
    found: Survey
    upkeep: list[Action]
    views: list[NodeView]
    live: list[NodeView]
    rest: list[NodeView]
    touched: set[str]
    disturbed: int = 0
    headroom: Headroom = field(default_factory=lambda: Headroom({}))
    leaving: list[ScaleDown] = field(default_factory=list[ScaleDown])

    def untouched(self) -> list[NodeView]:
        """Nodes that a later step may still do something about."""
        return [view for view in self.rest if view.node.id not in self.touched]

    def let_go(self, part: ScaleDown) -> None:
        """Its nodes are touched from then on."""
        self.leaving.append(part)
        self.touched |= part.ids


def _look(policy: Policy, observed: Sequence[Observed], state: State, now: float) -> _Scene:
    found = survey(observed, state)
    upkeep = plan_upkeep(policy, found, state, now)
    asleep = {view.node.id for view in state.nodes if view.node.state is NodeState.STOPPED}
    settled = {action.node_id for action in upkeep if not _is_mild(action) or action.node_id in asleep}
    gone = {action.node_id for action in upkeep if isinstance(action, Mark) and action.event == "gone"}
    views = sorted((v for v in state.nodes if v.node.state in LIVE_STATES), key=lambda v: v.node.id)
    live = [view for view in views if view.node.id not in gone]
    rest = [view for view in live if view.node.id not in settled and view.node.state is not NodeState.QUARANTINED]
    return _Scene(policy, state, now, found, upkeep, views, live, rest, {action.node_id for action in upkeep})


def _let_go_whatever_is_wanted(scene: _Scene) -> None:
    """Ends, notices, nodes beyond max and outdated ones: none of these serves any more, so demand is served without them."""
    complete, now = scene.found.complete, scene.now
    warm = WarmPools.of(scene.state.pools, scene.live)
    scene.let_go(plan_ends(scene.untouched(), complete, warm, now))
    scene.let_go(plan_overdue(scene.untouched(), complete, now))
    scene.let_go(ScaleDown(plan_stopped(scene.untouched(), scene.state.pools, complete)))
    scene.let_go(plan_notices(scene.untouched(), now))
    scene.let_go(plan_endings(scene.untouched(), now))
    going = set[str]().union(*(part.ids for part in scene.leaving))
    scene.let_go(plan_overruns(scene.untouched(), scene.state, complete, now, going))
    scene.headroom = Headroom.of(scene.state, scene.rest, set[str]().union(*(part.ids for part in scene.leaving)))
    scene.let_go(plan_over_max(scene.untouched(), scene.headroom, complete))
    going = [view for view in scene.live if draining(view) and view.node.code in _VOLUNTARY]
    stale = plan_spec_changes(scene.policy, scene.untouched(), scene.headroom, complete, len(going))
    scene.disturbed = len(going) + len(stale.ids)
    scene.let_go(stale)


def _serve(scene: _Scene, matching: Matching, demand: Sequence[Demand]) -> None:
    """First what pools keep up, then standing requests, then the rest."""
    for pool in sorted(scene.state.pools, key=lambda pool: (pool.role != "head", pool.name)):
        lacking = pool.min - scene.headroom.staying.get(pool.name, 0)
        if lacking > 0:
            keep_minimum(matching, pool, lacking)
    admitted, refused = admit(demand, scene.state, matching.offers)
    matching.waits.extend(refused)
    matching.serve([d for d in admitted if d.source in STANDING], in_total=True)
    passing = [d for d in admitted if d.source not in STANDING]
    matching.serve(passing + _replacements(scene.rest, scene.now), in_total=False)


def _let_go_what_is_not_wanted(scene: _Scene, matching: Matching) -> None:
    """Idle nodes; and, when nothing is coming up, the one move that saves most."""
    policy, state = scene.policy, scene.state
    wanted = matching.used() | set(matching.candidates.reserved)
    scene.let_go(plan_idle(scene.untouched(), wanted, scene.headroom, scene.now))
    if not policy.consolidate or scene.disturbed >= policy.disruption_budget or matching.candidates.buys_or_awaits():
        return
    spare = {pool.name: scene.headroom.spare(pool.name) for pool in state.pools}
    steady = [view for view in scene.untouched() if view.node.id not in wanted]
    move = plan_consolidation(policy, steady, matching.offers, state.pools, spare, matching.allowance, scene.now)
    if move is not None and move.drain is not None:
        scene.let_go(ScaleDown([move.drain]))
    elif move is not None and move.launch is not None:
        matching.allowance.take(move.launch, 1)
        matching.candidates.add_launch(move.launch, move.reason)


def _replacements(views: Sequence[NodeView], now: float) -> list[Demand]:
    """Work on nodes that the provider is about to take away, as demand: its replacement is launched at once."""
    found: list[Demand] = []
    for view in views:
        if view.preempt_at is None or not view.work:
            continue
        own = view.node.offer
        shapes = Counter(
            Shape(work.resources, own.gpu_type if "GPU" in work.resources.units else "", own.pool) for work in view.work
        )
        bundles = tuple(sorted(shapes.items()))
        found.append(Demand(f"replace:{view.node.id}", "replacement", bundles, since=now, refs=(view.node.id,)))
    return found


_VOLUNTARY = frozenset({"spec_changed", "consolidation"})  # drains that count against the disruption budget


def _is_mild(action: Action) -> bool:
    """Whether the node goes on as before afterwards."""
    return isinstance(action, Mark) and action.event in ("running", "requested")


def _price_after(views: Sequence[NodeView], actions: Sequence[Action]) -> float:
    away = {a.node_id for a in actions if isinstance(a, Drain | Terminate | Stop)}
    away |= {a.node_id for a in actions if isinstance(a, Mark) and a.event in ("gone", "fail")}
    bought = sum(action.offer.price for action in actions if isinstance(action, Launch | Start))
    return sum(view.node.price for view in views if view.node.id not in away) + bought


_Stay = tuple[str, NodeState, float, float | None]  # pool, state, since when, last heartbeat


def _as_planned(views: Sequence[NodeView], actions: Sequence[Action], now: float) -> list[_Stay]:
    """Where nodes will stand once `actions` are carried out: whoever applies a plan need not look again for its sake."""
    by_id = {view.node.id: view for view in views}
    stays = {v.node.id: (v.node.pool, v.node.state, v.node.since, v.heartbeat) for v in views}
    for action in actions:
        if isinstance(action, Launch):
            stays[action.node_id] = (action.offer.pool, NodeState.PLANNED, now, None)
        elif (view := by_id.get(action.node_id)) is not None:
            state = next_state(view.node.state, action.event if isinstance(action, Mark) else action.op)
            since = view.node.since if state is view.node.state else now
            stays[action.node_id] = (view.node.pool, state, since, view.heartbeat)
    return list(stays.values())


def _deadlines(policy: Policy, state: State, stays: Sequence[_Stay], now: float) -> list[float]:
    """When a node will have been in its state for too long, or silent for too long."""
    pools = {pool.name: pool for pool in state.pools}
    wake: list[float] = []
    for pool_name, life, since, heartbeat in stays:
        pool = pools.get(pool_name)
        if pool is None:
            continue
        limit = deadline(pool, life)
        if limit is not None:
            wake.append(since + limit + 0.001)
        if heartbeat is not None and life in JOINED_STATES:
            wake.append(heartbeat + pool.dead_after + 0.001)
            if life is NodeState.READY:
                wake.append(heartbeat + policy.heartbeat_timeout + 0.001)  # from then on it takes no work
    return [at for at in wake if at > now]
