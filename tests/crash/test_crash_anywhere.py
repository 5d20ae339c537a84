"""The process dies at every position of the journal and around every provider call; the next one finishes the story."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.crash.stage import FakeSky, Fuse, TwoSkies
from tests.crash.story import LISTS, MEMORY, check_all_gone, check_no_double, live_through, run_story, running

SKIES: dict[str, list[dict[str, Any]]] = {
    "lists-are-true": [],
    "lists-lag": [{"kind": "stale_list", "seconds": 4}],
    "lists-break-off": [{"kind": "partial_list", "from": 1, "until": 12}],
    "sold-out-in-one-zone": [{"kind": "no_capacity", "offer": "*/za"}],
}


@contextlib.contextmanager
def new_sky(name: str, keep: int = 0, kind: type[FakeSky] = FakeSky) -> Iterator[FakeSky]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        sky = kind(Path(directory), faults=SKIES[name], keep_stopped=keep)
        yield sky
        sky.close()


def positions(name: str, skip: Sequence[str], keep: int = 0, kind: type[FakeSky] = FakeSky) -> list[str]:
    """Names of all positions that an undisturbed run passes."""
    fuse = Fuse(skip=skip)
    with new_sky(name, keep, kind) as sky, running(sky, fuse) as head:
        head.start()
        run_story(head, [])
        check_all_gone(sky, head)
    return fuse.passed


@pytest.mark.parametrize("name", sorted(SKIES))
def test_a_crash_at_any_position_leaks_nothing_and_the_wanted_state_is_reached(name: str) -> None:
    skip = () if name == "lists-are-true" else LISTS  # a list changes nothing: one sky with them is enough
    names = positions(name, skip)
    assert {"before commit", "after commit", "before create", "after create", "after terminate"} <= set(names)
    phases: set[str] = set()
    for number in range(1, len(names) + 1):
        with new_sky(name) as sky:
            phases.update(live_through(sky, [Fuse(number, skip=skip)]))
    assert phases == {"start", "up", "scale-up", "scale-down"}, "every phase was interrupted"


@pytest.mark.parametrize("name", ["lists-are-true", "lists-lag"])
def test_a_crash_at_any_position_leaks_nothing_where_the_workers_are_another_providers(name: str) -> None:
    names = positions(name, LISTS, kind=TwoSkies)
    phases: set[str] = set()
    for number in range(1, len(names) + 1):
        with new_sky(name, kind=TwoSkies) as sky:
            phases.update(live_through(sky, [Fuse(number, skip=LISTS)]))
    assert phases == {"start", "up", "scale-up", "scale-down"}, "every phase was interrupted"


def test_a_crash_at_any_position_of_stops_and_starts_leaks_nothing() -> None:
    """Two nodes are kept stopped, and started again."""
    names = positions("lists-are-true", LISTS, keep=2)
    assert {"before stop", "after stop", "before start", "after start"} <= set(names)
    phases: set[str] = set()
    for number in range(1, len(names) + 1):
        with new_sky("lists-are-true", keep=2) as sky:
            phases.update(live_through(sky, [Fuse(number, skip=LISTS)]))
    assert phases >= {"scale-up", "scale-down", "start", "stop"}


@pytest.mark.parametrize("kind", ["lost_call", "lost_answer"])
@pytest.mark.parametrize("call", ["stop", "start"])
def test_stops_and_starts_that_the_cloud_loses_are_made_again(kind: str, call: str, tmp_path: Path) -> None:
    sky = FakeSky(tmp_path, keep_stopped=2, faults=[{"kind": kind, "call": call, "times": 3}])
    with running(sky) as head:
        head.start()
        run_story(head, [], lambda: check_no_double(sky))
        calls = [c["call"] for c in head.provider.inner.calls()].count(call)  # type: ignore[attr-defined]
        assert calls > 3 or kind == "lost_answer", "until one got through; what was done shows in the list"
        check_all_gone(sky, head)
    sky.close()


def test_a_zone_without_room_for_a_stopped_node_lets_another_zone_have_its_turn(tmp_path: Path) -> None:
    """What was stopped stays, and counts for no more than its disk."""
    sky = FakeSky(tmp_path, keep_stopped=2, faults=[{"kind": "no_capacity", "offer": "*/za", "from": 30}])
    with running(sky) as head:
        head.start()
        run_story(head, [], lambda: check_no_double(sky))
        started = [c for c in head.provider.inner.calls() if c["call"] == "start"]  # type: ignore[attr-defined]
        assert started, "it was tried"
        check_all_gone(sky, head)
    sky.close()


def test_crashes_during_the_recovery_from_a_crash_leak_nothing() -> None:
    total = len(positions("lists-lag", LISTS))
    for number in range(1, total + 1, 2):
        with new_sky("lists-lag") as sky:
            live_through(sky, [Fuse(n, skip=LISTS) for n in (number, 1 + number * 7 % 11, 1 + number * 5 % 7)])


def test_answers_lost_after_the_effect_leak_nothing() -> None:
    """Each call of a provider in turn is done and never answered, and the process lives on."""
    with new_sky("lists-are-true") as sky, running(sky) as head:
        head.start()
        run_story(head, [])
        calls = head.provider.calls
    for at in range(1, calls + 1):
        with (
            new_sky("lists-are-true") as sky,
            running(sky, lost=lambda number, call, at=at: number in (at, at + 1)) as head,
        ):
            head.start()
            done: list[str] = []
            run_story(head, done, lambda sky=sky: check_no_double(sky))
            check_all_gone(sky, head)


@pytest.mark.parametrize("kind", ["lost_call", "lost_answer"])
def test_calls_and_answers_that_the_cloud_loses_leak_nothing(kind: str, tmp_path: Path) -> None:
    """The cloud loses every create for a while, then works; then it loses every end for a while."""
    faults = [
        {"kind": kind, "call": "create", "until": 9},
        {"kind": kind, "call": "terminate", "times": 3},
    ]
    sky = FakeSky(tmp_path, faults=faults)
    with running(sky) as head:
        head.start()
        run_story(head, [], lambda: check_no_double(sky))
        settled = head.journal.nodes()
    assert sky.living() == [] and settled == {}
    sky.close()
