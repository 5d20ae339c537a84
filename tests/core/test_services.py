"""What a service needs next, as a table, and what must hold whatever happens."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterctl.core.services import LEAVE_SECONDS, Decision, Replica, Wish, decide, restart_at

NOW = 10_000.0


def a(state: str, version: int = 1, job: str = "", **more: object) -> Replica:
    return replace(Replica(job or f"{state}-{version}", version, state, NOW - 10), **more)  # type: ignore[arg-type]


STEADY, UPDATE, FIRST = Wish(2, 1, 1, 60), Wish(2, 1, 2, 60), Wish(1, 0, 1, 60)
TWO = (a("well", job="a"), a("well", job="b"))
CASES: list[tuple[str, Wish, tuple[Replica, ...], Decision]] = [
    ("a service that is as wanted is left alone", STEADY, TWO, Decision()),
    ("a new one starts all of its replicas", FIRST, (), Decision(start=(1,))),
    ("who waits for room is waited for", FIRST, (a("waiting"),), Decision()),
    ("one that has become well proves its version", FIRST, (a("well"),), Decision(promote=True)),
    ("an update starts beside the old ones", UPDATE, TWO, Decision(start=(2, 2))),
    (
        "each that is well takes the place of an old one",
        UPDATE,
        (*TWO, a("well", 2), a("starting", 2)),
        Decision(leave=(("b", "version 2 takes its place"),), look_at=NOW + 50),
    ),
    (
        "once all are well the version is the current one",
        UPDATE,
        (TWO[0], a("well", 2, "c"), a("well", 2, "d")),
        Decision(leave=(("a", "version 2 takes its place"),), promote=True),
    ),
    (
        "a program that ends ends its version",
        UPDATE,
        (*TWO, a("broken", 2, why="exited with code 3")),
        Decision(give_up="broken-2 exited with code 3", culprit="broken-2"),
    ),
    (
        "as does one that is never well",
        UPDATE,
        (*TWO, a("starting", 2, "c", since=NOW - 60, why="503")),
        Decision(give_up="c was not well 60 s after its start: 503", culprit="c"),
    ),
    (
        "what a version that was given up has left goes",
        STEADY,
        (*TWO, a("starting", 2)),
        Decision(leave=(("starting-2", "version 1 takes its place"),)),
    ),
    ("one whose program ended is replaced at once", STEADY, (TWO[0], a("broken")), Decision(start=(1,))),
    (
        "one too many goes, the worst first",
        STEADY,
        (a("waiting"), *TWO),
        Decision(leave=(("waiting-1", "it was scaled to 2"),)),
    ),
    (
        "a replica whose node drains stays until another is well",
        STEADY,
        (TWO[0], a("well", job="b", moving=True)),
        Decision(start=(1,)),
    ),
    (
        "and goes then",
        STEADY,
        (*TWO, a("well", job="c", moving=True)),
        Decision(leave=(("c", "its node goes"),)),
    ),
    (
        "or shortly before its node does",
        Wish(1, 1, 1, 60),
        (a("waiting"), a("well", job="c", moving=True, by=NOW + LEAVE_SECONDS)),
        Decision(leave=(("c", "its node goes"),)),
    ),
    (
        "of which it is reminded",
        Wish(1, 1, 1, 60),
        (a("waiting"), a("well", job="c", moving=True, by=NOW + 100)),
        Decision(look_at=NOW + 100 - LEAVE_SECONDS),
    ),
    (
        "one that was ill for long is replaced",
        Wish(1, 1, 1, 60),
        (a("ill", since=NOW - 60, why="503"),),
        Decision(start=(1,), leave=(("ill-1", "it is not well: 503"),)),
    ),
    (
        "an old replica that is lost during an update is started again",
        UPDATE,
        (TWO[0], a("waiting", 2, "c"), a("waiting", 2, "d")),
        Decision(start=(1,)),
    ),
    (
        "without room for both an old one leaves first",
        replace(UPDATE, surge=False),
        TWO,
        Decision(start=(2,), leave=(("b", "version 2 takes its place"),)),
    ),
    (
        "the next one once the first new one is well",
        replace(UPDATE, surge=False),
        (TWO[0], a("well", 2, "c")),
        Decision(start=(2,), leave=(("a", "version 2 takes its place"),)),
    ),
    ("and not before", replace(UPDATE, surge=False), (TWO[0], a("waiting", 2, "c")), Decision()),
    (
        "scaled to nothing, all go",
        replace(STEADY, replicas=0),
        TWO,
        Decision(leave=(("a", "it was scaled to 0"), ("b", "it was scaled to 0"))),
    ),
]


@pytest.mark.parametrize(
    ("wish", "replicas", "decision"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_what_is_decided(wish: Wish, replicas: tuple[Replica, ...], decision: Decision):
    assert decide(wish, replicas, NOW) == decision


def test_a_program_that_keeps_ending_is_started_after_pauses_that_grow():
    pauses = [restart_at([NOW - n for n in range(ends)], NOW) - NOW for ends in range(1, 9)]
    assert pauses == [-NOW, 2, 4, 8, 16, 32, 60, 60]
    ended = Wish(1, 1, 1, 60, ends=(NOW - 1, NOW))
    assert decide(ended, (), NOW) == Decision(look_at=NOW + 2)
    assert decide(ended, (), NOW + 2).start == (1,)
    assert restart_at([NOW, NOW], NOW + 601) == 0


states = st.sampled_from(["waiting", "starting", "well", "ill", "broken"])
some = st.lists(
    st.builds(
        Replica,
        job=st.uuids().map(str),
        version=st.integers(1, 3),
        state=states,
        since=st.floats(NOW - 100, NOW),
        moving=st.booleans(),
        by=st.none() | st.floats(NOW - 50, NOW + 200),
    ),
    max_size=8,
    unique_by=lambda replica: replica.job,
)
wishes = st.builds(Wish, st.integers(0, 4), st.integers(0, 3), st.integers(1, 3), st.just(60.0))


@given(wishes, some)
def test_nothing_well_is_taken_away_while_fewer_than_wanted_would_be_left(wish: Wish, replicas: list[Replica]):
    decision = decide(wish, replicas, NOW)
    leaving = {job for job, _ in decision.leave}
    late = {r.job for r in replicas if r.moving and r.by is not None and r.by - LEAVE_SECONDS <= NOW}
    well = [r for r in replicas if r.state == "well" and not (r.moving and r.job in late)]
    if taken := [r for r in well if r.job in leaving]:
        assert len(well) - len(taken) >= wish.replicas, (taken, decision)


@given(wishes, some, st.booleans())
def test_it_comes_to_rest_with_so_many_of_the_wanted_version(wish: Wish, replicas: list[Replica], surge: bool):
    """Whatever there is: where every program that is started becomes well, the wish comes true."""
    number, wish = 0, replace(wish, surge=surge)
    for _ in range(20):
        decision = decide(wish, replicas, NOW)
        if decision.give_up:
            wish = replace(wish, wanted=wish.current)
            if not wish.wanted:
                return
        leaving = {job for job, _ in decision.leave}
        replicas = [r for r in replicas if r.job not in leaving and r.state != "broken"]
        replicas = [replace(r, state="well", since=NOW) for r in replicas]
        for version in decision.start:
            number += 1
            replicas.append(Replica(f"new-{number}", version, "waiting", NOW))
        if decision.promote:
            wish = replace(wish, current=wish.wanted)
    assert [(r.version, r.state, r.moving) for r in replicas] == [(wish.wanted, "well", False)] * wish.replicas
    assert wish.current == wish.wanted


@given(wishes, some)
def test_without_surge_an_update_needs_no_room_that_is_not_there(wish: Wish, replicas: list[Replica]):
    decision = decide(replace(wish, surge=False), replicas, NOW)
    if wish.is_update and not decision.give_up:
        alive = sum(replica.state != "broken" for replica in replicas)
        assert alive - len(decision.leave) + len(decision.start) <= max(alive, wish.replicas)
