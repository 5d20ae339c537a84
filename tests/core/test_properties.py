"""What holds in every world, whatever is wanted and whatever has gone wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, is_dataclass

import pytest
from hypothesis import HealthCheck, given, settings

from clusterctl.core.codec import dumps, loads
from clusterctl.core.lifecycle import next_state
from clusterctl.core.limits import budget_rate, day_ends, month_ends
from clusterctl.core.model import Drain, Launch, Mark, NodeState, Plan, Start, Stop, Terminate, Undrain, launch_token
from clusterctl.core.scale_down.overrun import OVERRUNS
from tests.core.arbitrary import World, worlds
from tests.core.worlds import NOW, UID

arbitrary = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def _views(world: World):
    return {view.node.id: view for view in world.state.nodes}


def _are_for_one_gang(world: World, plan: Plan) -> bool:
    """A gang larger than what a minute allows is launched whole, alone in its minute."""
    launches = [a for a in plan.actions if isinstance(a, Launch | Start)]
    gangs = {demand.id for demand in world.demand if demand.gang}
    return any(all(gang in launch.demand_ids for launch in launches) for gang in gangs)


def _counted(world: World, plan: Plan):
    """Offers of everything that runs or will run: all records but those found to be gone or stopped, and what is
    launched or started."""
    gone = {a.node_id for a in plan.actions if isinstance(a, Mark) and a.event == "gone"}
    gone |= {v.node.id for v in world.state.nodes if v.node.state in (NodeState.GONE, NodeState.STOPPED)}
    live = [view.node.offer for view in world.state.nodes if view.node.id not in gone]
    return live, [a.offer for a in plan.actions if isinstance(a, Launch | Start)]


@arbitrary
@given(worlds())
def test_live_and_planned_nodes_never_exceed_the_limits_of_pool_cluster_or_budget(world: World) -> None:
    plan = world.plan()
    live, new = _counted(world, plan)
    if not new:
        return  # limits may have been lowered below what exists: nothing is added to it
    limits = world.state.limits
    everything = live + new
    per_pool = Counter(offer.pool for offer in everything)
    for pool in world.state.pools:
        if any(offer.pool == pool.name for offer in new):
            assert per_pool[pool.name] <= pool.max
            if pool.max_cost_per_hour is not None and any(o.pool == pool.name and o.price for o in new):
                assert sum(o.price for o in everything if o.pool == pool.name) <= pool.max_cost_per_hour + 1e-5
    if limits.nodes is not None:
        assert len(everything) <= limits.nodes
    if limits.gpus is not None and any("GPU" in offer.resources for offer in new):
        assert sum(offer.resources.get("GPU") for offer in everything) <= limits.gpus
    price = sum(offer.price for offer in everything)
    if any(offer.price for offer in new):
        if limits.cost_per_hour is not None:
            assert price <= limits.cost_per_hour + 1e-5
        if limits.budget_per_day is not None:
            left = limits.budget_per_day - world.state.spend.today
            assert price <= budget_rate(left, day_ends(NOW) - NOW) + 1e-5
        if limits.budget_per_month is not None:
            left = limits.budget_per_month - world.state.spend.month
            assert price <= budget_rate(left, month_ends(NOW) - NOW) + 1e-5
    if limits.launches_per_minute is not None:
        recent = sum(1 for at in world.state.launches if NOW - 60 < at <= NOW)
        paced = recent + len(new) <= limits.launches_per_minute
        assert paced or (recent == 0 and limits.launches_per_minute > 0 and _are_for_one_gang(world, plan))


@arbitrary
@given(worlds())
def test_no_node_that_runs_work_or_has_an_unacknowledged_drain_is_ended(world: World) -> None:
    views = _views(world)
    for action in world.plan().actions:
        if not isinstance(action, Terminate | Stop) or not action.node_id:
            continue
        view = views[action.node_id]
        if view.node.state in (NodeState.FAILED, NodeState.TERMINATING):
            continue
        if view.preempt_at is not None and view.preempt_at <= NOW:
            continue
        if view.node.state is NodeState.DRAINING and view.node.drain_by is not None and view.node.drain_by <= NOW:
            continue  # whoever drained it said for how long it may go on
        assert not view.work
        assert view.drain in ("", "acked")
        if view.drain == "":
            never_up = (NodeState.PLANNED, NodeState.REQUESTED, NodeState.BOOTING)
            assert isinstance(action, Terminate) and view.node.state in (*never_up, NodeState.STOPPED)


@arbitrary
@given(worlds())
def test_beyond_a_limit_idle_workers_go_and_what_runs_goes_only_where_the_user_said_so(world: World) -> None:
    limits, plan, views = world.state.limits, world.plan(), _views(world)
    spent = limits.budget_per_day is not None and world.state.spend.today >= limits.budget_per_day
    drained = {action.node_id: action for action in plan.actions if isinstance(action, Drain)}
    acted = {getattr(action, "node_id", "") for action in plan.actions}
    for node_id, view in views.items():
        if view.node.role != "worker" or view.node.state is not NodeState.READY or view.node.price <= 0:
            continue
        busy = bool(view.work) or view.idle_since is None
        if spent and not busy:
            assert view.drain or view.preempt_at is not None or node_id in acted
        if (drain := drained.get(node_id)) is not None and drain.reason.code in OVERRUNS:
            assert drain.reason.fix
            assert (drain.deadline is None) == (not busy) and (not busy or limits.drain_after is not None)
    if spent:
        assert not [a for a in plan.actions if isinstance(a, Launch | Start) and a.offer.price > 0]


@arbitrary
@given(worlds())
def test_no_more_nodes_are_stopped_than_a_pool_keeps_and_only_those_that_can_be_started_again(world: World) -> None:
    plan, views = world.plan(), _views(world)
    kept = Counter(v.node.pool for v in views.values() if v.node.state in (NodeState.STOPPING, NodeState.STOPPED))
    pools = {pool.name: pool for pool in world.state.pools}
    for action in plan.actions:
        if isinstance(action, Stop):
            node = views[action.node_id].node
            kept[node.pool] += 1
            assert kept[node.pool] <= pools[node.pool].keep_stopped
            assert node.offer.market == "on-demand" and node.spec_hash in ("", pools[node.pool].spec_hash)
        elif isinstance(action, Start):
            node = views[action.node_id].node
            assert node.state is NodeState.STOPPED and node.instance_id == action.instance_id
            assert action.offer.key == node.offer.key and action.offer in world.offers
            assert node.spec_hash in ("", pools[node.pool].spec_hash)


@arbitrary
@given(worlds())
def test_nothing_destructive_is_decided_where_the_observation_is_incomplete(world: World) -> None:
    complete = {scope.scope: scope.complete for scope in world.observed}
    found_in = {i.id: scope.scope for scope in world.observed for i in scope.instances}
    views = _views(world)
    for action in world.plan().actions:
        if isinstance(action, Terminate | Stop) or (isinstance(action, Mark) and action.event == "gone"):
            zone = views[action.node_id].node.offer.zone if action.node_id else ""
            instance = (
                action.instance_id if isinstance(action, Terminate | Stop) else views[action.node_id].node.instance_id
            )
            assert complete[found_in.get(instance, zone)]


@arbitrary
@given(worlds())
def test_nothing_without_our_uid_is_ever_touched(world: World) -> None:
    ours = {i.id for scope in world.observed for i in scope.instances if i.uid == UID}
    ours |= {view.node.instance_id for view in world.state.nodes}
    for action in world.plan().actions:
        if isinstance(action, Terminate | Stop | Start):
            assert action.instance_id in ours


@arbitrary
@given(worlds())
def test_an_orphan_is_ended_only_after_enough_sightings_and_a_minimum_age(world: World) -> None:
    created = {i.id: i.created for scope in world.observed for i in scope.instances}
    seen = dict(world.state.sightings)
    for action in world.plan().actions:
        if isinstance(action, Terminate) and not action.node_id:
            assert seen[action.instance_id] >= world.policy.orphan_sightings
            assert NOW - created[action.instance_id] >= world.policy.orphan_min_age


@arbitrary
@given(worlds())
def test_every_waiting_demand_has_a_reason_and_nothing_is_forgotten(world: World) -> None:
    plan = world.plan()
    for wait in plan.waits:
        assert wait.count > 0
        assert wait.reason.code
        assert wait.reason.text
    ready = [v for v in world.state.nodes if v.node.state in (NodeState.READY, NodeState.DRAINING)]
    if not ready:  # nothing can be served now: each demand waits with all its copies
        waiting = Counter[str]()
        for wait in plan.waits:
            waiting[wait.demand_id] += wait.count
        for demand in world.demand:
            assert waiting[demand.id] >= demand.count


@arbitrary
@given(worlds())
def test_every_action_is_legal_for_its_node_and_no_node_gets_two(world: World) -> None:
    plan = world.plan()
    views = _views(world)
    known = [a.node_id for a in plan.actions if a.node_id]
    assert len(known) == len(set(known))
    for action in plan.actions:
        if isinstance(action, Mark):
            next_state(views[action.node_id].node.state, action.event)
        elif isinstance(action, Drain):
            next_state(views[action.node_id].node.state, "drain")
        elif isinstance(action, Undrain):
            next_state(views[action.node_id].node.state, "undrain")
        elif isinstance(action, Terminate) and action.node_id:
            next_state(views[action.node_id].node.state, "terminate")
        elif isinstance(action, Stop | Start):
            next_state(views[action.node_id].node.state, action.op)
        elif isinstance(action, Launch):
            assert action.node_id not in views
            assert action.token == launch_token(UID, action.node_id, action.generation)


@arbitrary
@given(worlds())
def test_ids_are_never_used_twice_and_launches_are_of_usable_offers(world: World) -> None:
    plan = world.plan()
    launches = [a for a in plan.actions if isinstance(a, Launch)]
    assert len({a.node_id for a in launches}) == len(launches)
    blocked = {block.offer_key for block in world.state.blocks if block.until > NOW}
    for launch in launches:
        assert launch.offer in world.offers
        assert launch.offer.price >= 0
        assert launch.offer.key not in blocked


@arbitrary
@given(worlds())
def test_a_plan_survives_being_written_and_read(world: World) -> None:
    plan = world.plan()
    assert loads(Plan, dumps(plan)) == plan
    assert dumps(loads(Plan, dumps(plan))) == dumps(plan)
    assert loads(type(world.state), dumps(world.state)) == world.state


@arbitrary
@given(worlds())
def test_a_plan_wakes_in_the_future_and_leaves_its_inputs_as_they_were(world: World) -> None:
    before = dumps(world.state)
    plan = world.plan()
    assert plan.wake_at is None or plan.wake_at > NOW
    assert dumps(world.state) == before


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(worlds())
def test_no_input_of_the_planner_can_be_changed_in_place(world: World) -> None:
    def check(value: object) -> None:
        if is_dataclass(value):
            for field in fields(value):
                with pytest.raises(AttributeError):
                    setattr(value, field.name, None)
                check(getattr(value, field.name))
        elif isinstance(value, tuple):
            for item in value:
                check(item)
        else:
            assert value is None or isinstance(value, str | int | float), type(value)

    for given_value in (world.policy, world.state, world.observed, world.demand, world.offers, world.plan()):
        check(given_value)
