"""The world behind every pretended cloud: what it has, how fast it may be asked, what goes wrong, and when things happen."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cloud.wire import Broken, Half, misbehave
from tests.cloud.world import UNLIMITED, Fault, Timetable, World


class Said(Exception):
    """How this cloud words a refusal."""


class Acme(World):
    def no_capacity(self, instance_type: str, zone: str) -> Said:
        return Said(f"no {instance_type} in {zone}")

    def over_quota(self, market: str, left: int) -> Said:
        return Said(f"{left} vCPUs of {market} are left")

    def too_many_calls(self) -> Said:
        return Said("slower")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("capacity", "free"),
    [
        ({}, UNLIMITED),
        ({"big/a/spot": 3}, 3),
        ({"*/a/*": 2}, 2),
        ({"*/b/*": 2, "*/*/spot": 5}, 5),
        ({"big/*/on-demand": 0}, UNLIMITED),
    ],
)
def test_capacity_is_had_by_type_zone_and_market(capacity: dict[str, int], free: int) -> None:
    assert Acme(capacity=capacity).free("big", "a", "spot") == free


def test_what_is_taken_is_missing_until_it_is_given_back_and_less_than_the_least_is_nothing() -> None:
    world = Acme(capacity={"big/a/spot": 3})
    assert world.take("big", "a", "spot", 4, 1, 2) == 2
    assert world.take("big", "a", "spot", 4, 1, 2) == 1
    with pytest.raises(Said, match="no big in a"):
        world.take("big", "a", "spot", 4, 1, 1)
    world.give_back("big", "a", "spot", 4)
    with pytest.raises(Said):
        world.take("big", "a", "spot", 4, 2, 2)
    assert world.free("big", "a", "spot") == 1


def test_a_quota_is_all_or_nothing_for_a_call_and_comes_back() -> None:
    world = Acme(vcpu_quota={"spot": 8})
    with pytest.raises(Said, match="8 vCPUs of spot are left"):
        world.take("big", "a", "spot", 4, 1, 3)
    assert world.take("big", "a", "spot", 4, 1, 2) == 2 and world.vcpu_quota == {"spot": 0}
    world.give_back("big", "a", "spot", 4, 2)
    assert world.vcpu_quota == {"spot": 8} and world.take("big", "a", "on-demand", 4, 1, 99) == 99


def test_calls_too_many_are_refused_by_action_and_for_all() -> None:
    clock = Clock()
    world = Acme(clock=clock)
    world.limit("list", burst=2, per_second=1.0)
    world.limit("*", burst=3, per_second=1.0)
    for action in ("list", "list", "make"):
        world.check_rate(action)
    for action in ("list", "make"):
        with pytest.raises(Said, match="slower"):
            world.check_rate(action)
    clock.now += 1.0
    world.check_rate("list")


def test_a_fault_hits_what_it_names_as_often_and_as_long_as_it_says() -> None:
    clock = Clock()
    world = Acme(clock=clock)
    world.faults = [Fault("list", times=2, match="page=2"), Fault("*", "cut", times=None, until=1010.0)]
    assert world.fault_for("list", "page=2") is world.fault_for("list", "page=2")
    assert [getattr(world.fault_for(*call), "effect", None) for call in (("list", "page=2"), ("make", ""))] == [
        "cut"
    ] * 2
    clock.now = 1011.0
    assert world.fault_for("list", "page=2") is None


@pytest.mark.parametrize(
    ("effect", "done", "raised"),
    [("error", 0, Said), ("lost", 1, Said), ("reset", 1, Broken), ("cut", 0, Broken), ("delay", 0, None)],
)
def test_an_answer_may_be_refused_lost_cut_or_late(effect: str, done: int, raised: type[Exception] | None) -> None:
    carried_out: list[int] = []

    def go() -> None:
        misbehave(Fault("x", effect, message="no"), lambda: carried_out.append(1), lambda fault: Said(fault.message))

    if raised:
        with pytest.raises(raised):
            go()
    else:
        go()
    assert len(carried_out) == done


def test_an_answer_that_is_garbled_is_half_of_it_under_a_head_that_says_all_is_well() -> None:
    started: list[Any] = []

    def whole(environ: Any, start: Any) -> list[bytes]:
        start("200 OK", [("Content-Length", "10"), ("X", "y")])
        return [b"01234", b"56789"]

    (text,) = Half(whole)({}, lambda status, headers: started.append((status, headers)))
    assert text == b"01234" and started == [("200 OK", [("X", "y")])]


def test_each_thing_has_one_next_step_and_it_comes_when_it_is_due() -> None:
    table = Timetable()
    table.put("a", 5.0, "running")
    table.put("b", 4.0, "running")
    table.put("a", 6.0, "ended")
    assert table.take(5.0) == [("b", "running")] and "a" in table and "b" not in table
    assert table.take(6.0) == [("a", "ended")] and table.take(100.0) == []
