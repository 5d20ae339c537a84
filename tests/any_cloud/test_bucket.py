"""Calls a second over all that a process does in an account, and what a refusal does to them."""

from __future__ import annotations

import threading

import pytest
from clusterctl_providers.cloud.bucket import Bucket, shared_bucket

from clusterctl.core.errors import Throttled
from tests.any_cloud.clock import Clock


def bucket(clock: Clock, rate: float = 5.0, burst: int = 4) -> Bucket:
    return Bucket("Acme", rate, burst, clock, clock.pause)


def test_the_reserve_is_spent_at_once_and_then_calls_come_at_the_rate() -> None:
    clock = Clock()
    one = bucket(clock)
    for _ in range(9):
        one.take(patience=60.0)
    assert clock.pauses == pytest.approx([0.2] * 5)


def test_a_wait_beyond_the_callers_patience_is_refused_and_takes_no_turn() -> None:
    clock = Clock()
    one = bucket(clock, burst=1)
    one.take(patience=0.0)
    for _ in range(3):  # each time the same wait: what was refused stands in no queue
        with pytest.raises(Throttled, match=r"calls to Acme are held back for 0\.2 s") as told:
            one.take(patience=0.1)
        assert told.value.retry_after == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("asked", "pauses"),
    [
        ([0.0, 0.0, 0.0], [1.0, 2.0, 4.0]),
        ([0.0] * 8, [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]),
        ([17.0, 1.0, 90.0], [17.0, 2.0, 90.0]),  # the cloud's own word is the least
    ],
)
def test_refusals_in_a_row_close_it_for_longer_and_never_for_less_than_the_cloud_asks(
    asked: list[float], pauses: list[float]
) -> None:
    clock = Clock()
    one, found = bucket(clock), list[float]()
    for seconds in asked:
        found.append(one.refused(seconds))
        clock.pause(found[-1])
    assert found == pauses


def test_calls_that_were_under_way_together_and_are_refused_together_are_one_refusal() -> None:
    clock = Clock()
    one = bucket(clock)
    assert [one.refused(seconds) for seconds in (0.0, 0.0, 3.0, 0.0)] == [1.0, 1.0, 3.0, 1.0]
    clock.pause(3.0)  # the longest that one of them was told of
    one.take(patience=1.0)
    assert one.refused() == 2.0


def test_after_a_refusal_the_rate_comes_back_slowly_with_the_calls_that_are_served() -> None:
    clock = Clock()
    one = bucket(clock, rate=8.0, burst=1)
    for _ in range(10):
        clock.now += one.refused()
    clock.now += 100.0
    spent: list[float] = []
    for _ in range(40):
        before = clock.now
        one.take(patience=60.0)
        one.served()
        spent.append(clock.now - before)
    assert max(spent) <= 1.0 and spent[2] > 0.5 and spent[-1] == pytest.approx(1 / 8.0)


def test_threads_share_the_reserve_and_none_gets_more_than_its_turn() -> None:
    """Twenty at once, real ones; the clock stands still, so that only the reserve of four is there."""
    clock = Clock()
    one = Bucket("Acme", 5.0, 4, lambda: 1000.0, clock.pause)
    served: list[int] = []
    start = threading.Barrier(20)

    def work(number: int) -> None:
        start.wait(60)
        try:
            one.take(patience=0.0)
        except Throttled:
            return
        served.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(served) == 4 and clock.pauses == []


def test_all_clients_of_an_account_have_one_and_others_have_their_own() -> None:
    mine = shared_bucket("Acme", 5.0, "me", "north")
    assert shared_bucket("Acme", 5.0, "me", "north") is mine
    for other in (("Acme", 5.0, "me", "south"), ("Acme", 9.0, "me", "north"), ("Blob", 5.0, "me", "north")):
        assert shared_bucket(*other) is not mine
