"""The life of a node as one table: state x event -> state, and how long it may stay in each state.

planned -> requested -> booting -> joining -> ready -> draining -> terminating -> gone
(failed from any of them; failed -> terminating -> gone)
draining -> stopping -> stopped -> requested ..., in pools that keep nodes stopped
"""

from __future__ import annotations

from clusterctl.core.errors import IllegalTransition
from clusterctl.core.model import NodeState as S
from clusterctl.core.model import Pool

# event -> (states it may come in, state it leads to)
EVENTS: dict[str, tuple[frozenset[S], S]] = {
    "requested": (frozenset({S.PLANNED, S.REQUESTED}), S.REQUESTED),
    "running": (
        frozenset({S.PLANNED, S.REQUESTED, S.BOOTING, S.STOPPED}),
        S.BOOTING,
    ),  # stopped: somebody else started it
    "joined": (frozenset({S.PLANNED, S.REQUESTED, S.BOOTING, S.JOINING}), S.JOINING),
    "ready": (frozenset({S.JOINING, S.READY}), S.READY),
    "rejoined": (frozenset({S.READY}), S.JOINING),  # its agent or its raylet was started anew
    "drain": (frozenset({S.JOINING, S.READY, S.DRAINING}), S.DRAINING),
    "undrain": (frozenset({S.DRAINING}), S.READY),
    "stop": (frozenset({S.DRAINING, S.STOPPING}), S.STOPPING),
    "stopped": (frozenset({S.STOPPING, S.STOPPED, S.REQUESTED}), S.STOPPED),  # requested: its start was refused
    "start": (frozenset({S.STOPPED, S.REQUESTED}), S.REQUESTED),
    "fail": (frozenset(S) - {S.GONE, S.TERMINATING, S.QUARANTINED}, S.FAILED),
    "terminate": (frozenset(S) - {S.GONE, S.QUARANTINED}, S.TERMINATING),
    "gone": (frozenset(S) - {S.QUARANTINED}, S.GONE),
}

# seconds a node may stay in a state before "fail" (None = for ever)
DEADLINES: dict[S, float | None] = {
    S.PLANNED: 120.0,
    S.REQUESTED: 300.0,
    S.BOOTING: 600.0,
    S.JOINING: 900.0,
    S.READY: None,
    S.DRAINING: None,
    S.STOPPING: 600.0,
    S.STOPPED: None,
    S.TERMINATING: 600.0,  # then terminate is called again
    S.FAILED: None,
    S.QUARANTINED: None,
    S.GONE: None,
}


def next_state(state: S, event: str) -> S:
    """The state after `event`; raises IllegalTransition where the table has no entry."""
    try:
        allowed, target = EVENTS[event]
    except KeyError:
        raise IllegalTransition(f"unknown event {event!r} for a node in state {state.value!r}") from None
    if state not in allowed:
        raise IllegalTransition(f"event {event!r} is not allowed for a node in state {state.value!r}")
    return target


def deadline(pool: Pool, state: S) -> float | None:
    """Seconds a node of `pool` may stay in `state`; the pool's own figure wins."""
    return dict(pool.deadlines).get(state.value, DEADLINES[state])
