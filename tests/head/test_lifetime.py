"""The head's watch over its cluster's lifetime: with a clock, on a real disk, and across restarts."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from clusterctl_runtime.head.jobs.requests import JobRequest
from clusterctl_runtime.head.lifetime.watch import FILE, Ending, LifetimeWatch
from clusterctl_runtime.head.storage.events import EventLog
from clusterctl_runtime.head.storage.store import Store

from clusterctl.core.lifetime import Lifetime, Use

START = 1_796_112_000.0


class Post:
    """A watch of which a test sets clock, rules and use."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = self.wall = START
        self.rules, self.use = Lifetime(), Use(0)
        self.closed: list[Ending] = []
        self.store = Store(directory / "store.db")
        self.start()

    def start(self) -> None:
        """A head's new process."""
        self.events = EventLog(self.store)
        self.watch = LifetimeWatch(
            self.directory,
            "demo",
            lambda: self.rules,
            lambda rules: self.use,
            self.closed.append,
            self.events,
            wall=lambda: self.wall,
            clock=lambda: self.now,
        )

    def look(self, seconds: float = 0.0) -> float:
        """One look, so much later."""
        self.now, self.wall = self.now + seconds, self.wall + seconds
        return asyncio.run(self.watch.look())

    def codes(self) -> list[str]:
        return [event["code"] for event in self.events.newest(100)]


@pytest.fixture
def post(tmp_path: Path) -> Iterator[Post]:
    made = Post(tmp_path)
    yield made
    made.store.close()


def soon(awaitable: Awaitable[object]) -> object:
    async def run() -> object:
        return await asyncio.wait_for(awaitable, 60)

    return asyncio.run(run())


def test_without_rules_nothing_is_due_or_told(post: Post) -> None:
    post.use = Use(0, START - 1)
    assert post.look(1e6) == 30.0 and post.closed == [] and post.watch.document(1.0) is None


def test_the_decision_is_on_disk_when_it_is_told_and_a_restarted_head_has_made_it(post: Post) -> None:
    post.rules, post.use = Lifetime(after_last_job=600), Use(0, START + 10)
    assert post.look(20) == 30.0
    post.now = post.wall = START + 611
    told = soon(post.watch.decided())
    assert post.closed == [told] and isinstance(told, Ending) and told.rule == "after_last_job"
    assert json.loads((post.directory / FILE).read_text())["ending"]["text"] == told.text
    post.rules, post.use = Lifetime(), Use(1)  # whatever has become of the rules
    post.start()
    assert post.watch.ending == told and soon(post.watch.decided()) == told


def test_the_door_is_closed_in_the_turn_of_the_decision(post: Post) -> None:
    post.rules, post.use = Lifetime(idle=5), Use(0)
    post.look()

    async def turn() -> list[Ending]:
        post.now += 6
        look = post.watch.look()
        with pytest.raises(StopIteration):
            look.send(None)  # it has not waited for anything
        return list(post.closed)

    assert len(asyncio.run(turn())) == 1


def test_a_full_disk_holds_the_end_up_until_it_has_room(post: Post) -> None:
    post.rules = Lifetime(at=START - 1)
    aside = post.directory.with_name("aside")

    async def run() -> Ending:
        shutil.move(post.directory, aside)
        deciding = asyncio.create_task(post.watch.decided())
        while not post.closed:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert not deciding.done()
        shutil.move(aside, post.directory)
        return await asyncio.wait_for(deciding, 60)

    assert asyncio.run(run()).rule == "at"


def test_idle_time_counts_across_a_restart(post: Post) -> None:
    post.rules = Lifetime(idle=7200)
    assert post.look() == 30.0
    post.now, post.wall = START + 7000, START + 7000
    post.start()
    post.use = Use(0, certain_from=post.now + 60)
    assert post.look() == 30.0 and post.watch.seen.idle_since == START
    assert post.look(195) == pytest.approx(5.0)
    post.look(5)
    assert [ending.rule for ending in post.closed] == ["idle"]


def test_jobs_of_an_earlier_life_do_not_count(post: Post) -> None:
    post.rules, post.use = Lifetime(after_last_job=60), Use(0, START + 10)
    post.look(20)
    (post.directory / FILE).unlink()  # as `up` does with a cluster that has ended itself
    post.start()
    assert post.look(1000) == 30.0 and post.closed == []
    post.use = Use(1, START + 10)
    post.look(10)
    post.use = Use(0, post.now)
    assert post.look(0) == 30.0 and post.look(55) == pytest.approx(5.0)


def test_it_is_warned_once_before_a_moment(post: Post) -> None:
    post.rules = Lifetime(at=START + 3600)
    assert post.look() == 30.0 and post.codes() == []
    post.now = post.wall = START + 3001
    post.look()
    assert post.codes() == ["ends_soon"]
    assert "2026-12-01 09:00 UTC, in 10 min, whatever runs then" in post.events.newest(1)[0]["text"]
    asyncio.run(post.store.flush())
    post.start()
    post.look()
    assert post.codes() == ["ends_soon"]
    post.rules = replace(post.rules, at=START + 3601)
    post.look()
    assert post.codes() == ["ends_soon", "ends_soon"]


def test_a_moment_counts_by_peoples_clock(post: Post) -> None:
    """A laptop slept: the head's own time has not gone on, the wall clock's has."""
    post.rules, post.use = Lifetime(at=START + 3600), Use(1)
    post.look()
    post.wall += 3540
    told = post.watch.document(1.0)
    assert (
        told is not None
        and told["ends_at"] == START + 3600
        and "at 2026-12-01 09:00 UTC, in 1 min (at)" in told["text"]
    )
    post.wall += 61
    post.look()
    assert [ending.rule for ending in post.closed] == ["at"]


def test_what_is_told_of_it(post: Post) -> None:
    post.rules, post.use = Lifetime(after_last_job=600), Use(1)
    waiting = post.watch.document(3.6)
    assert waiting is not None
    assert (waiting["rule"], waiting["ends_at"], waiting["cost"]) == ("", None, None)
    post.use = Use(0, START + 1)
    post.look(2)
    told = post.watch.document(3.6)
    assert told is not None
    assert (told["rule"], told["ending"], told["cost"]) == ("after_last_job", False, 0.6)
    assert told["text"].endswith("in 10 min (after_last_job); until then about $0.60")
    post.look(700)
    last = post.watch.document(3.6)
    assert last is not None and last["ending"] and last["text"].startswith("is ending itself: its last job had ended")


def test_a_job_that_is_being_taken_in_holds_the_cluster(desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in no book yet, and its submitter will be told that it is accepted."""
    seen: list[bool] = []
    flush: Callable[[], Awaitable[None]] = desk.store.flush

    async def watched() -> None:
        seen.append(desk.queue.arriving)
        await flush()

    monkeypatch.setattr(desk.store, "flush", watched)
    assert not desk.queue.arriving
    asyncio.run(desk.queue.submit([JobRequest(argv=["true"])]))
    assert seen == [True] and not desk.queue.arriving and desk.book.counts["queued"] == 1
