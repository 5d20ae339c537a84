"""The cluster's events, of which only the newest are in memory: who asks gets them all, in order, each once."""

from __future__ import annotations

import asyncio
from typing import Any

from clusterctl_runtime.head.api.cluster import _follow_events
from clusterctl_runtime.head.storage.events import RECENT


def add(desk: Any, number: int, subject: str = "noise") -> None:
    for _ in range(number):
        desk.events.add("job", subject, "test", "something happened")


def test_the_events_of_one_subject_are_found_behind_any_number_of_others(desk: Any) -> None:
    add(desk, 1500)
    add(desk, 1, "wanted")
    add(desk, RECENT + 500)
    found = asyncio.run(desk.events.since(0, 10, "wanted"))
    assert [event["seq"] for event in found] == [1501]


def test_a_follower_of_one_subject_gets_what_lies_far_behind_the_newest(desk: Any) -> None:
    async def follow() -> list[int]:
        lines = _follow_events(desk, 0, 1000, "wanted")
        return [(await asyncio.wait_for(anext(lines), 60))["seq"] for _ in range(2)]

    add(desk, 1500)
    add(desk, 1, "wanted")
    add(desk, RECENT + 500)
    add(desk, 1, "wanted")
    assert asyncio.run(follow()) == [1501, 1502 + RECENT + 500]


def test_a_follower_misses_nothing_of_what_happened_in_one_turn(desk: Any) -> None:
    """More than memory keeps, and not on disk yet when the follower asks."""

    async def follow() -> list[int]:
        lines = _follow_events(desk, desk.events.last, 1000, "")
        waiting = asyncio.ensure_future(anext(lines))
        await asyncio.sleep(0)
        add(desk, 3 * RECENT)
        seen = [(await asyncio.wait_for(waiting, 60))["seq"]]
        while len(seen) < 3 * RECENT:
            seen.append((await asyncio.wait_for(anext(lines), 60))["seq"])
        return seen

    first = desk.events.last + 1
    assert asyncio.run(follow()) == list(range(first, first + 3 * RECENT))
