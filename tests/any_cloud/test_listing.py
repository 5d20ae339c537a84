"""Lists that lag, break in the middle and forget: what is shown, what is asked for by id, and what is believed to be over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from clusterctl_providers.cloud.listing import MISSED_FOR, SEEN_BY, SETTLES, Listing

from clusterctl.core.errors import AuthFailed, ProviderError, Throttled
from clusterctl.core.model import Instance
from tests.any_cloud.clock import Clock
from tests.any_cloud.requests import instance


class Rows:
    """`shown` is what a list has, `known` what there is by id. The list breaks after `breaks_after` instances."""

    def __init__(self, *names: str) -> None:
        self.known = {f"vm-{n}": instance(n, name) for n, name in enumerate(names)}
        self.hidden: set[str] = set()
        self.foreign: set[str] = set()
        self.breaks_after: int | None = None
        self.trouble: ProviderError | None = None
        self.asked: list[list[str]] = []

    def alive(self) -> Iterator[Instance]:
        rows = [i for i in self.known.values() if i.id not in self.hidden | self.foreign and i.state != "terminated"]
        for number, row in enumerate(rows):
            if number == self.breaks_after:
                raise Throttled("the second page is not to be had")
            yield row

    def ours(self, instance_ids: Sequence[str]) -> Iterator[Instance]:
        return (one for one in self.any_of(instance_ids) if one.id not in self.foreign)

    def any_of(self, instance_ids: Sequence[str]) -> Iterator[Instance]:
        self.asked.append(list(instance_ids))
        if self.trouble:
            raise self.trouble
        return iter([self.known[i] for i in instance_ids if i in self.known])

    def end(self, instance_id: str, detail: str = "taken back") -> None:
        self.known[instance_id] = replace(self.known[instance_id], state="terminated", detail=detail)


def listing(rows: Rows, clock: Clock) -> Listing:
    return Listing(rows, clock)


def test_a_whole_list_is_complete_and_half_a_one_says_why_it_is_not() -> None:
    rows, clock = Rows("cpu-1", "cpu-2", "cpu-3"), Clock()
    one = listing(rows, clock)
    whole = one.observe("north")
    assert whole.complete and len(whole.instances) == 3 and (whole.scope, whole.at) == ("north", clock.now)
    rows.breaks_after = 2
    half = one.observe("north")
    assert not half.complete and len(half.instances) == 2
    assert (half.error, half.code) == ("the second page is not to be had", Throttled.code)


def test_half_a_list_says_nothing_of_those_that_it_does_not_show() -> None:
    rows, clock = Rows("cpu-1", "cpu-2"), Clock()
    one = listing(rows, clock)
    one.observe("north")
    clock.now += 60
    rows.end("vm-1")
    rows.breaks_after = 0
    assert one.observe("north").instances == () and rows.asked == [], "and asks for nobody"


def test_one_that_was_launched_a_moment_ago_and_shows_nowhere_is_left_alone() -> None:
    rows, clock = Rows("cpu-1"), Clock()
    rows.hidden = {"vm-0"}
    one = listing(rows, clock)
    one.remember(rows.known["vm-0"])
    clock.now += SEEN_BY
    assert one.observe("north").instances == () and rows.asked == []
    clock.now += 0.1
    assert one.observe("north").instances == () and rows.asked == [["vm-0"]], "it is there, and no more is said"


def test_one_that_ended_by_itself_is_shown_once_with_the_clouds_reason() -> None:
    rows, clock = Rows("cpu-1", "cpu-2"), Clock()
    one = listing(rows, clock)
    one.observe("north")
    rows.end("vm-1", "no capacity any more")
    clock.now += SEEN_BY + 1
    shown = one.observe("north")
    assert shown.complete and [(i.id, i.state, i.detail) for i in shown.instances if i.state == "terminated"] == [
        ("vm-1", "terminated", "no capacity any more")
    ]
    clock.now += SEEN_BY + 1
    assert [i.id for i in one.observe("north").instances] == ["vm-0"] and rows.asked == [["vm-1"]]
    assert one.owned(["vm-0", "vm-1"]) == ["vm-0"], "what has ended is not ended again"


def test_one_that_we_ended_is_not_asked_after() -> None:
    rows, clock = Rows("cpu-1", "cpu-2"), Clock()
    one = listing(rows, clock)
    one.observe("north")
    one.let_go(["vm-1"])
    assert len(one.observe("north").instances) == 2, "it is still ending"
    rows.end("vm-1")
    clock.now += 60
    assert [i.id for i in one.observe("north").instances] == ["vm-0"] and rows.asked == []


@pytest.mark.parametrize("trouble", [None, AuthFailed("lapsed")])
def test_one_that_nobody_knows_is_asked_for_again_for_ten_minutes_and_then_forgotten(
    trouble: ProviderError | None,
) -> None:
    rows, clock = Rows("cpu-1"), Clock()
    one = listing(rows, clock)
    one.observe("north")
    began = clock.now
    del rows.known["vm-0"]
    rows.trouble = trouble
    while clock.now - began <= MISSED_FOR:
        clock.now += 50.0
        assert one.observe("north").instances == ()
    rows.trouble = None
    one.observe("north")
    asked = len(rows.asked)
    one.observe("north")
    assert len(rows.asked) == asked and asked >= MISSED_FOR / 50


def test_what_we_launched_is_new_for_a_while() -> None:
    rows, clock = Rows("cpu-1"), Clock()
    one = listing(rows, clock)
    one.remember(rows.known["vm-0"])
    assert one.is_new("vm-0") and not one.is_new("vm-7")
    clock.now += SETTLES
    assert not one.is_new("vm-0")


def test_only_what_carries_our_uid_is_ours_and_that_is_asked_once() -> None:
    rows = Rows("cpu-1", "cpu-2")
    rows.foreign = {"vm-1"}
    one = listing(rows, Clock())
    assert one.owned(["vm-1", "vm-0", "vm-9"]) == ["vm-0"] and rows.asked == [["vm-0", "vm-1", "vm-9"]]
    assert one.owned(["vm-0"]) == ["vm-0"] and len(rows.asked) == 1


def test_a_look_by_id_takes_no_notice_of_tags_and_of_nobody_asks_nothing() -> None:
    rows = Rows("cpu-1")
    rows.foreign = {"vm-0"}
    one = listing(rows, Clock())
    assert set(one.look_up(["vm-0", "vm-9"])) == {"vm-0"}
    rows.trouble = AuthFailed("lapsed")
    assert one.look_up([]) == {}
    with pytest.raises(AuthFailed):
        one.look_up(["vm-0"])
