"""Streams of the API show that they live, however often there is news that is none for their reader."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from clusterctl_runtime.head.api.cluster import _follow_events
from clusterctl_runtime.head.api.logs import LogReader
from clusterctl_runtime.head.api.status_board import StatusBoard

KEEP_ALIVE = 0.2


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clusterctl_runtime.head.api.streams.KEEP_ALIVE_SECONDS", KEEP_ALIVE)


async def first_while(lines: AsyncIterator[Any], happens: Callable[[int], None]) -> Any:
    """The first line of a stream during which `happens` goes on, four times as often as signs of life are due."""

    async def go_on() -> None:
        for number in itertools.count():
            happens(number)
            await asyncio.sleep(KEEP_ALIVE / 4)

    meanwhile = asyncio.ensure_future(go_on())
    try:
        return await asyncio.wait_for(anext(lines), 60)
    finally:
        meanwhile.cancel()


def test_the_log_of_a_queued_job_shows_signs_of_life_while_the_reason_for_its_wait_changes(desk: Any) -> None:
    job = desk.job()

    def waits(number: int) -> None:
        wait = {"code": "bad_request", "text": "no image", "fix": f"it is tried again in {600 - number} s", "eta": None}
        desk.book.set_waits({job.group: [(1, wait)]})

    lines = LogReader(desk, job).lines(follow=True)
    assert asyncio.run(first_while(lines, waits)) is None


def test_the_events_of_one_subject_show_signs_of_life_while_others_have_theirs(desk: Any) -> None:
    lines = _follow_events(desk, desk.events.last, 100, "cpu-1")
    assert (
        asyncio.run(first_while(lines, lambda number: desk.events.add("node", "cpu-2", "ready", str(number)))) is None
    )


def test_the_status_is_made_once_for_all_who_watch_it(desk: Any) -> None:
    made: list[int] = []

    def make() -> dict[str, Any]:
        made.append(1)
        return {"events": desk.events.last}

    board = StatusBoard(make, desk.events, unannounced=3600.0)

    async def watch(many: int) -> list[Any]:
        watchers = [board.watch() for _ in range(many)]
        first = [json.loads(await anext(watcher)) for watcher in watchers]
        waiting = asyncio.gather(*(anext(watcher) for watcher in watchers))
        desk.events.add("node", "cpu-1", "ready", "it takes work")
        second = [json.loads(line) for line in await asyncio.wait_for(waiting, 60)]
        assert first == [first[0]] * many and second == [{"events": first[0]["events"] + 1}] * many
        return second

    asyncio.run(watch(20))
    assert len(made) == 2
