"""Until when what runs on a draining node may go on, and what ends it then."""

from __future__ import annotations

from typing import Any

import pytest

from clusterctl.core.model import Drain, NodeState, NodeView, Terminate
from tests.core.worlds import NOW, amounts, decide, offer, seen, state, view

SPOT = offer(market="spot")


def draining(drain_by: float | None, **rest: Any) -> NodeView:
    fields = {"code": "user_drain", "reason": "a user drains it", "drain": "requested", "used": amounts(CPU=1)} | rest
    return view(of=SPOT, state=NodeState.DRAINING, drain_by=drain_by, **fields)


@pytest.mark.parametrize(("left", "ends"), [(1.0, False), (0.0, True), (-5.0, True)])
def test_at_its_deadline_a_draining_node_is_ended_whatever_runs(left: float, ends: bool) -> None:
    plan = decide(state(draining(NOW + left)), offers=())
    assert [type(action) for action in plan.actions] == ([Terminate] if ends else [])
    if ends:
        assert plan.actions[0].reason.text == "a user drains it; that time is over"
    else:
        assert plan.wake_at == NOW + left


def test_at_its_deadline_nothing_is_ended_where_the_list_is_incomplete() -> None:
    overdue = draining(NOW - 9000)
    assert decide(state(overdue), offers=(), observed=(seen(overdue, complete=False),)).actions == ()


def test_a_node_that_drains_in_its_own_time_is_not_ended_while_anything_runs() -> None:
    assert decide(state(draining(None, since=NOW - 90000)), offers=()).actions == ()


@pytest.mark.parametrize("by", [None, NOW + 600.0])
def test_a_notice_brings_a_later_deadline_of_a_drain_forward(by: float | None) -> None:
    (drain,) = decide(state(draining(by, preempt_at=NOW + 100)), offers=()).actions
    assert isinstance(drain, Drain)
    assert (drain.deadline, drain.reason.code) == (NOW + 100, "spot_notice")


@pytest.mark.parametrize("by", [NOW + 60.0, NOW + 100.0, NOW + 101.5])
def test_a_notice_leaves_an_earlier_deadline_as_it_is_and_the_same_one_told_again_too(by: float) -> None:
    assert decide(state(draining(by, preempt_at=NOW + 100)), offers=()).actions == ()
