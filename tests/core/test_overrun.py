"""What becomes of what runs when a limit no longer allows it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from clusterctl.core.explain import explain_node
from clusterctl.core.model import Drain, Launch, Limits, NodeState, NodeView, Plan, Policy, Spend, State, Terminate
from clusterctl.core.scale_down.overrun import notes
from clusterctl.core.scheduling.remedies import Situation
from tests.core.worlds import NOW, amounts, decide, offer, pool, seen, state, view, want

DEAR = offer("gpu", "big", price=98.0, resources=amounts(CPU=8, GPU=8))
POOLS = (pool("gpu", min=1, idle_timeout=600.0),)
SPENT = Spend(today=2352.0, month=5000.0, total=9000.0)


def idle(node_id: str = "gpu-1", **rest: Any) -> NodeView:
    return view(node_id, rest.pop("of", DEAR), idle_since=NOW - 5, **rest)


def busy(node_id: str = "gpu-1", **rest: Any) -> NodeView:
    return view(node_id, rest.pop("of", DEAR), used=amounts(GPU=8), **rest)


def world(*views: NodeView, spend: Spend = SPENT, pools: Any = POOLS, **limits: Any) -> State:
    return state(*views, pools=pools, limits=Limits(**limits), spend=spend)


def drains(plan: Plan) -> dict[str, Drain]:
    return {action.node_id: action for action in plan.actions if isinstance(action, Drain)}


def test_an_idle_node_of_min_goes_when_the_days_budget_is_spent_and_none_takes_its_place() -> None:
    plan = decide(world(idle(), budget_per_day=100.0), offers=(DEAR,))
    (drain,) = plan.actions
    assert isinstance(drain, Drain) and drain.deadline is None
    assert drain.reason.code == "budget_per_day"
    assert drain.reason.text == "2352.00 of 100 $ of this day's budget is spent, and nothing runs on it"
    assert drain.reason.fix == "raise limits.budget.per_day, or wait for the next day (UTC)"
    assert plan.price_after == 0.0
    (wait,) = plan.waits
    assert wait.demand_id == "min:gpu" and wait.reason.code == "budget_per_day"


def test_a_node_that_runs_work_goes_on_by_default() -> None:
    assert decide(world(busy(), budget_per_day=100.0), offers=(DEAR,)).actions == ()


def test_a_node_that_the_engine_uses_counts_as_one_that_runs_work() -> None:
    assert decide(world(view("gpu-1", DEAR), budget_per_month=100.0), offers=(DEAR,)).actions == ()


def test_with_drain_after_what_runs_is_drained_with_that_deadline() -> None:
    plan = decide(world(busy(), budget_per_day=100.0, drain_after=1800.0), offers=(DEAR,))
    (drain,) = plan.actions
    assert isinstance(drain, Drain) and drain.deadline == NOW + 1800.0
    assert "what runs on it is stopped after 1800 s (limits.drain_after)" in drain.reason.text


def test_a_budget_lets_go_of_nothing_that_costs_nothing_and_never_of_the_head() -> None:
    own = idle("own-1", of=offer("own", price=0.0))
    head = idle("head-1", of=offer("head", price=1.0), role="head")
    pools = (pool("own"), pool("head", role="head", min=1, max=1))
    assert decide(world(own, head, pools=pools, budget_per_day=100.0), offers=()).actions == ()


def test_a_node_that_comes_up_when_the_budget_is_spent_is_ended_before_it_does() -> None:
    booting = view("gpu-1", DEAR, NodeState.BOOTING)
    (end,) = decide(world(booting, budget_per_day=100.0), offers=(DEAR,)).actions
    assert isinstance(end, Terminate) and end.reason.code == "budget_per_day"


@pytest.mark.parametrize(
    ("limits", "gone"),
    [
        ({"cost_per_hour": 20.0}, []),
        ({"cost_per_hour": 19.0}, ["c-3"]),
        ({"cost_per_hour": 12.0}, ["c-3"]),
        ({"cost_per_hour": 9.0}, ["c-3", "c-2"]),
        ({"cost_per_hour": 1.0}, ["c-3", "c-2", "c-1"]),
        ({"nodes": 3}, ["c-3"]),
        ({"gpus": 3.0}, ["c-3"]),
        ({"gpus": 1.0}, ["c-3", "c-2", "c-1"]),
    ],
)
def test_a_lowered_limit_lets_go_of_idle_nodes_the_dearest_first_and_no_more_than_it_takes(
    limits: dict[str, Any], gone: list[str]
) -> None:
    nodes = [idle(f"c-{n}", of=offer("c", price=price, resources=amounts(CPU=1, GPU=1))) for n, price in
             ((1, 2.0), (2, 4.0), (3, 8.0))]  # fmt: skip
    works = view("c-4", offer("c", price=6.0, resources=amounts(CPU=1, GPU=1)), used=amounts(CPU=1))
    lowered = world(*nodes, works, pools=(pool("c", min=4),), **limits)
    plan = decide(lowered, offers=())
    assert sorted(drains(plan)) == sorted(gone)
    again = replace(lowered, nodes=tuple(v for v in lowered.nodes if v.node.id not in gone))
    assert drains(decide(again, offers=())) == {}


def test_a_lowered_limit_of_a_pool_lets_go_of_that_pools_nodes_only() -> None:
    nodes = [idle("a-1", of=offer("a", price=5.0)), idle("b-1", of=offer("b", price=9.0))]
    pools = (pool("a", min=1, max_cost_per_hour=3.0), pool("b", min=1))
    assert list(drains(decide(world(*nodes, pools=pools), offers=()))) == ["a-1"]


def test_what_is_on_its_way_out_needs_no_other_to_go() -> None:
    going = idle("c-1", of=offer("c", price=8.0), state=NodeState.DRAINING, code="idle", drain="requested")
    staying = idle("c-2", of=offer("c", price=8.0))
    assert drains(decide(world(going, staying, pools=(pool("c", min=1),), cost_per_hour=8.0), offers=())) == {}


def test_two_limits_at_once_let_go_of_no_node_twice() -> None:
    nodes = [idle(f"c-{n}", of=offer("c", price=5.0)) for n in (1, 2, 3)]
    plan = decide(world(*nodes, pools=(pool("c", min=3),), cost_per_hour=10.0, nodes=2), offers=())
    assert len(plan.actions) == 1


def test_the_planner_looks_again_when_the_budget_will_be_spent() -> None:
    spend = Spend(today=98.0, month=98.0)
    plan = decide(world(idle(), spend=spend, budget_per_day=100.0), offers=(DEAR,))
    assert plan.actions == () and plan.wake_at == pytest.approx(NOW + 2.0 / 98.0 * 3600.0)


def test_a_new_day_brings_min_back() -> None:
    fresh = world(budget_per_day=1000.0, spend=Spend(0.0, 5000.0, 9000.0))
    assert [type(action) for action in decide(fresh, offers=(DEAR,)).actions] == [Launch]


def test_a_wanted_node_is_not_called_back_from_a_drain_for_the_budget() -> None:
    going = idle(state=NodeState.DRAINING, code="budget_per_day", drain="requested")
    plan = decide(world(going, budget_per_day=100.0), want(), offers=(DEAR,))
    assert plan.actions == () and plan.waits[0].reason.code == "budget_per_day"


def test_people_are_told_what_is_exceeded_by_what_and_what_ends_it() -> None:
    (note,) = notes(world(busy(), idle("gpu-2"), budget_per_day=100.0), NOW)
    assert note.text == (
        "2352.00 of 100 $ of this day's budget is spent: nothing is launched, and idle nodes are let go; "
        "2 nodes (196.00 $/h) go on while something runs on them"
    )
    assert note.fix.endswith("limits.drain_after stops what runs after a while")
    assert notes(world(busy(), budget_per_day=3000.0), NOW) == ()


def test_explain_says_of_a_busy_node_that_it_is_beyond_the_budget() -> None:
    beyond = world(busy(), budget_per_day=100.0)
    found = explain_node(Situation(Policy(), (seen(*beyond.nodes),), beyond, (), (DEAR,), NOW), "gpu-1")
    assert found is not None and found.reason.code == "working"
    assert "2352.00 of 100 $ of this day's budget is spent: it is let go once it is idle" in found.reason.text
    assert found.reason.fix == "raise limits.budget.per_day, or wait for the next day (UTC)"


def test_explain_and_the_plan_say_the_same_of_an_idle_one() -> None:
    beyond = world(idle(), budget_per_day=100.0)
    situation = Situation(Policy(), (seen(*beyond.nodes),), beyond, (), (DEAR,), NOW)
    found = explain_node(situation, "gpu-1")
    assert found is not None and found.reason == situation.plan().actions[0].reason  # type: ignore[union-attr]
