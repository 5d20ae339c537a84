"""The life of a node: the table, exhaustively, and random lives led to their end by the planner."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterctl.core.errors import IllegalTransition
from clusterctl.core.lifecycle import DEADLINES, EVENTS, deadline, next_state
from clusterctl.core.model import LIVE_STATES, NodeState
from tests.core.session import Session
from tests.core.worlds import pool


def test_every_state_and_event_is_either_in_the_table_or_refused() -> None:
    for state, event in itertools.product(NodeState, EVENTS):
        allowed, target = EVENTS[event]
        if state in allowed:
            assert next_state(state, event) is target
        else:
            with pytest.raises(IllegalTransition, match=state.value):
                next_state(state, event)
    with pytest.raises(IllegalTransition, match="unknown event"):
        next_state(NodeState.READY, "explode")


def test_every_state_but_quarantine_leads_to_gone_and_gone_leads_nowhere() -> None:
    for state in set(LIVE_STATES) - {NodeState.QUARANTINED}:
        assert next_state(next_state(state, "terminate"), "gone") is NodeState.GONE
    for event in EVENTS:
        with pytest.raises(IllegalTransition):
            next_state(NodeState.QUARANTINED, event)
    leaving_gone = {target for allowed, target in EVENTS.values() if NodeState.GONE in allowed}
    assert leaving_gone <= {NodeState.GONE}


def test_states_that_wait_for_somebody_else_have_deadlines_and_pools_may_change_them() -> None:
    waiting = {s for s, limit in DEADLINES.items() if limit is not None}
    assert waiting >= {
        NodeState.PLANNED,
        NodeState.REQUESTED,
        NodeState.BOOTING,
        NodeState.JOINING,
        NodeState.STOPPING,
        NodeState.TERMINATING,
    }
    assert deadline(pool(deadlines=(("booting", 5.0),)), NodeState.BOOTING) == 5.0
    assert deadline(pool(), NodeState.READY) is None


COMMANDS = st.one_of(
    st.builds(lambda i, c, n: f"want d{i} CPU={c} x={n}", st.integers(0, 2), st.integers(1, 4), st.integers(1, 5)),
    st.builds(lambda i, g: f"want g{i} CPU=2 gang={g}", st.integers(0, 1), st.integers(2, 4)),
    st.builds(lambda n: f"wait {n}", st.sampled_from([1, 61, 700])),
    st.sampled_from(
        ["plan", "plan", "settle", "pool cpu 0 6 idle=60 hash=v2", "pool cpu 1 3 idle=60 keep=2", "limits nodes=4"]
    ),
    st.builds(lambda verb, n: (verb, n), st.sampled_from(["busy", "free", "ack", "lose", "notice"]), st.integers(1, 6)),
)


def _run(session: Session, command: object) -> None:
    if isinstance(command, str):
        session.run(command)
        return
    verb, number = command  # type: ignore[misc]
    view = session.nodes.get(f"cpu-{number}")
    if view is None or view.node.state is NodeState.GONE:
        return
    if verb == "busy" and (view.node.state is not NodeState.READY or view.work):
        return
    if verb == "ack" and (view.drain != "requested" or view.work):
        return
    tail = {"busy": " CPU=1", "notice": " 120"}.get(verb, "")
    session.run(f"{verb} cpu-{number}{tail}")


@settings(max_examples=60)
@given(st.lists(COMMANDS, max_size=25))
def test_whatever_happened_a_cluster_that_nobody_wants_ends_at_its_min(commands: list[object]) -> None:
    session = Session()
    session.run("pool cpu 0 6 idle=60")
    session.run("offer cpu small 0.10 CPU=1")
    session.run("offer cpu large 0.35 spot CPU=4")
    for command in commands:
        _run(session, command)
        alive = [v for v in session.nodes.values() if v.node.state in LIVE_STATES - {NodeState.STOPPED}]
        assert len(alive) <= 6
    session.demand.clear()
    session.run("pool cpu 0 6 idle=60 hash=v3")
    for _ in range(30):
        for node_id, view in list(session.nodes.items()):
            if view.work:
                session.run(f"free {node_id}")
            if session.nodes[node_id].drain == "requested":
                session.run(f"ack {node_id}")
        session.run("plan")
        session.run("settle")
        session.run("wait 100")
    assert all(v.node.state is NodeState.GONE for v in session.nodes.values())
