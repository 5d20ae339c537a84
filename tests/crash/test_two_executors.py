"""A second executor takes over while the first is stopped at any position; the first then wakes up and goes on."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from clusterctl.core.errors import ClusterctlError
from clusterctl.provision.journal.book import Journal, StaleFence
from tests.crash.stage import FakeSky, Fuse, MiniHead
from tests.crash.story import MEMORY, check_all_gone, check_no_double, check_owned, run_story, settle
from tests.crash.test_crash_anywhere import positions

# A process that sleeps inside a transaction holds the file: nobody can take over until it has ended or gone on.
INSIDE = ("before commit", "after list")


def live_with_a_sleeper(sky: FakeSky, number: int) -> None:
    """The first executor falls asleep at position `number`; meanwhile a second one does everything up to the middle."""
    done: list[str] = []
    second = MiniHead(sky)

    def take_over() -> None:
        second.start()
        settle(sky, second, 3 if done[-1:] == ["up"] else 0)

    first = MiniHead(sky, Fuse(number, take_over, skip=INSIDE))
    first.start()
    with pytest.raises(StaleFence):
        run_story(first, done, lambda: check_no_double(sky))
    settle(sky, second, 3 if done[-1:] == ["up"] else 0)
    check_owned(sky, second)
    run_story(second, done, lambda: check_no_double(sky))
    check_all_gone(sky, second)
    first.close()
    second.close()


def test_a_stale_executor_does_no_harm_wherever_it_wakes_up() -> None:
    total = len(positions("lists-are-true", INSIDE))
    for number in range(1, total):  # after the last one nothing is left to be refused
        with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
            sky = FakeSky(Path(directory))
            live_with_a_sleeper(sky, number)
            sky.close()


def test_the_stale_executor_is_told_who_has_taken_over(tmp_path: Path) -> None:
    old, new = Journal(tmp_path / "nodes.db"), Journal(tmp_path / "nodes.db")
    assert old.acquire("head 1 on a") < new.acquire("head 2 on b")
    with pytest.raises(StaleFence, match="head 2 on b"):
        old.meta_set("key", "value")
    assert new.meta_get("key") == ""


def test_nobody_writes_who_has_not_taken_the_fence(tmp_path: Path) -> None:
    with pytest.raises(StaleFence):
        Journal(tmp_path / "nodes.db").meta_set("key", "value")


def test_a_journal_held_by_a_process_that_hangs_says_who_it_is(tmp_path: Path) -> None:
    hanging, waiting = Journal(tmp_path / "nodes.db"), Journal(tmp_path / "nodes.db")
    hanging.acquire("head 7 on a")
    waiting._disk._db.execute("PRAGMA busy_timeout=10")
    with (
        hanging.together(),
        pytest.raises(ClusterctlError, match="head 7 on a"),
    ):
        waiting.acquire("head 8 on a")
    assert waiting.acquire("head 8 on a") == hanging.fence + 1
