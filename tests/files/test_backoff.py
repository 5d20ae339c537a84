"""Pauses that grow, under a clock of the test's own."""

from __future__ import annotations

from typing import Any

import pytest
from clusterctl_runtime.backoff import Backoff, pause_after, wait_until


class Clock:
    """Time passes only where somebody pauses."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def backoff(clock: Clock, first: float = 1.0, longest: float = 5.0, **more: Any) -> Backoff:
    return Backoff(first, longest, clock=clock, sleep=clock.sleep, **more)


@pytest.mark.parametrize(("factor", "pauses"), [(2.0, [1.0, 2.0, 4.0, 5.0, 5.0]), (1.5, [1.0, 1.5, 2.25, 3.375, 5.0])])
def test_pauses_grow_up_to_the_longest(factor: float, pauses: list[float]) -> None:
    growing = backoff(Clock(), factor=factor)
    assert [growing.next() for _ in pauses] == pauses
    assert [pause_after(tries, 1.0, 5.0, factor) for tries in range(1, 6)] == pauses
    growing.reset()
    assert growing.next() == 1.0


def test_a_pause_is_a_number_however_often_it_failed() -> None:
    assert pause_after(10**9, 0.02, 30.0) == 30.0


def test_it_goes_on_for_its_time_and_the_last_try_is_at_the_end_of_it() -> None:
    clock = Clock()
    growing = backoff(clock, seconds=10.0)
    while growing.wait():
        pass
    assert clock.pauses == [1.0, 2.0, 4.0, 3.0]
    assert not growing.wait() and clock.now == 110.0
    growing.reset()
    assert growing.wait() and clock.pauses[-1] == 1.0


def test_who_says_when_to_come_again_is_obeyed() -> None:
    clock = Clock()
    growing = backoff(clock, seconds=4.0)
    assert growing.wait(at_least=3.0) and growing.wait(at_least=3.0)
    assert clock.pauses == [3.0, 3.0]
    assert not growing.wait(at_least=3.0)


def test_without_a_time_it_goes_on_for_ever() -> None:
    clock = Clock()
    growing = backoff(clock)
    assert all(growing.wait() for _ in range(1000))


@pytest.mark.parametrize(("chance", "pause"), [(0.0, 4.0), (0.5, 3.0), (1.0, 2.0)])
def test_those_who_failed_together_do_not_come_back_together(chance: float, pause: float) -> None:
    assert backoff(Clock(), 4.0, spread=0.5, chance=lambda: chance).next() == pause


def test_what_is_waited_for_is_given_back_or_the_last_that_was_seen() -> None:
    clock = Clock()
    assert wait_until(lambda: clock.now >= 103.0 and "there", backoff(clock, seconds=10.0)) == "there"
    assert clock.pauses == [1.0, 2.0]
    assert wait_until(list, backoff(Clock(), seconds=10.0)) == []
    late = Clock()
    assert wait_until(lambda: late.now >= 110.0, backoff(late, seconds=10.0)), "it is looked at once more at the end"
    assert wait_until(lambda: True, backoff(Clock(), seconds=0.0))
