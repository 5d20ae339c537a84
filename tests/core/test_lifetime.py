"""When a cluster ends itself, as a table and as rules that hold for any cluster."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterctl.core.lifetime import (
    AFTER_LAST_JOB,
    AT,
    IDLE,
    WARN_SECONDS,
    Lifetime,
    Seen,
    Use,
    moment,
    note,
    outlook,
    span,
    tell,
    warns_at,
    why,
)

START = 1_796_112_000.0  # 2026-12-01 08:00 UTC
HOUR = 3600.0
NOBODY = Use(0)


def ahead(lifetime: Lifetime, use: Use, seen: Seen = Seen(since=START), now: float = START) -> tuple[str, float | None]:
    found = outlook(lifetime, note(seen, use, now), use)
    return found.rule, None if found.ends_at is None else found.ends_at - START


@pytest.mark.parametrize(
    ("lifetime", "use", "expected"),
    [
        (Lifetime(), NOBODY, ("", None)),
        (Lifetime(at=START + 60), Use(3), (AT, 60)),
        (Lifetime(after_last_job=600), NOBODY, ("", None)),
        (Lifetime(after_last_job=600), Use(1, START + 5), ("", None)),
        (Lifetime(after_last_job=600), Use(0, START + 5), (AFTER_LAST_JOB, 605)),
        (Lifetime(after_last_job=600), Use(0, START - 5), ("", None)),  # of an earlier life
        (Lifetime(after_last_job=0), Use(0, START + 5), (AFTER_LAST_JOB, 5)),
        (Lifetime(idle=HOUR), NOBODY, (IDLE, HOUR)),
        (Lifetime(idle=HOUR), Use(1), ("", None)),
        (Lifetime(idle=HOUR), Use(0, others=("Ray uses cpu-1",)), ("", None)),
        (Lifetime(idle=10), Use(0, certain_from=START + 60), (IDLE, 60)),
        (Lifetime(600, HOUR, START + 50), Use(0, START + 5), (AT, 50)),
        (Lifetime(600, HOUR, START + 9000), Use(0, START + 5), (AFTER_LAST_JOB, 605)),
    ],
)
def test_the_first_rule_to_come_true_ends_the_cluster(
    lifetime: Lifetime, use: Use, expected: tuple[str, float | None]
) -> None:
    assert ahead(lifetime, use) == expected


def test_use_between_two_looks_counts() -> None:
    seen = note(Seen(since=START), NOBODY, START)
    assert seen.idle_since == START
    seen = note(seen, Use(0, busy_at=START + 100), START + 130)
    assert seen.idle_since == START + 100
    seen = note(seen, Use(0, last_end=START + 150), START + 160)
    assert (seen.idle_since, seen.last_end) == (START + 150, START + 150)


def test_a_last_job_that_is_forgotten_since_still_counts() -> None:
    seen = note(Seen(since=START), Use(0, START + 5), START + 6)
    assert ahead(Lifetime(after_last_job=600), NOBODY, seen) == (AFTER_LAST_JOB, 605)


def test_it_is_warned_once_and_anew_of_another_moment() -> None:
    rules = Lifetime(at=START)
    assert warns_at(rules, Seen()) == START - WARN_SECONDS
    assert warns_at(rules, Seen(warned_of=START)) is None
    assert warns_at(Lifetime(at=START + 60), Seen(warned_of=START)) == START + 60 - WARN_SECONDS
    assert warns_at(Lifetime(idle=5), Seen()) is None


def test_the_sentences() -> None:
    at = outlook(Lifetime(at=START), Seen(), NOBODY)
    assert (
        tell(at, START - 7800, 5.72)
        == "ends itself at 2026-12-01 08:00 UTC, in 2 h 10 min (at); until then about $12.39"
    )
    assert tell(at, START - 30, 0.0).endswith("in 30 s (at); until then it costs nothing")
    both = outlook(Lifetime(after_last_job=600, idle=60), Seen(), Use(2))
    assert tell(both, START, 1.0) == (
        "ends itself by its lifetime, not yet: after_last_job: 2 jobs wait or run; idle: 2 jobs wait or run"
    )
    none = outlook(Lifetime(after_last_job=600), Seen(), NOBODY)
    assert tell(none, START, 1.0).endswith("after_last_job: no job has come yet")
    assert why(AT, Lifetime(at=START)) == "its spec says `lifetime: {at: 2026-12-01 08:00 UTC}`"
    assert why(AFTER_LAST_JOB, Lifetime(600)) == "its last job had ended 10 min before (`lifetime.after_last_job`)"
    assert why(IDLE, Lifetime(idle=7200)) == "nothing had used it for 2 h (`lifetime.idle`)"
    assert [span(s) for s in (0, 59.6, 61, 3600, 90061)] == ["0 s", "1 min", "1 min 1 s", "1 h", "1 d 1 h"]
    assert moment(START) == "2026-12-01 08:00 UTC"


seconds = st.floats(0, 1e6)
maybe = st.none() | seconds
lifetimes = st.builds(Lifetime, maybe, maybe, maybe)
uses = st.builds(
    Use,
    st.integers(0, 3),
    maybe,
    st.sampled_from([(), ("Ray uses cpu-1",)]),
    maybe,
    seconds,
)
stories = st.lists(st.tuples(st.floats(0, 1e5), uses), min_size=1, max_size=8)


def after(story: list[tuple[float, Use]]) -> tuple[Seen, Use, float]:
    """What is known after these looks, the last of them and when that was."""
    seen, now, use = Seen(), 0.0, NOBODY
    for passed, looked in story:
        now += passed
        last = None if looked.last_end is None else min(looked.last_end, now)  # nothing ended in the future
        use = replace(looked, last_end=last)
        seen = note(seen, use, now)
    return seen, use, now


@given(lifetimes, stories)
def test_only_a_moment_ends_a_cluster_that_has_jobs(lifetime: Lifetime, story: list[tuple[float, Use]]) -> None:
    seen, use, _ = after(story)
    found = outlook(lifetime, seen, replace(use, open_jobs=1))
    assert found.rule in ("", AT) and (found.ends_at is None) == (lifetime.at is None)


@given(lifetimes, stories)
def test_each_rule_names_a_time_or_says_why_not(lifetime: Lifetime, story: list[tuple[float, Use]]) -> None:
    seen, use, now = after(story)
    found = outlook(lifetime, seen, use)
    assert bool(found.rule) == (found.ends_at is not None)
    assert bool(lifetime) == bool(found.rule or found.waits)
    if found.rule == IDLE:
        assert not use.others and found.ends_at is not None
        assert found.ends_at >= max(use.certain_from, (use.last_end or 0.0)) and seen.idle_since is not None
        assert seen.idle_since <= now


@given(stories)
def test_a_second_look_at_the_same_changes_nothing(story: list[tuple[float, Use]]) -> None:
    seen, use, now = after(story)
    assert note(seen, use, now) == seen


@given(lifetimes, stories, lifetimes)
def test_another_rule_never_makes_it_later(lifetime: Lifetime, story: list[tuple[float, Use]], more: Lifetime) -> None:
    seen, use, _ = after(story)
    both = Lifetime(*(a if a is not None else b for a, b in zip(_fields(lifetime), _fields(more), strict=True)))
    one, two = outlook(lifetime, seen, use).ends_at, outlook(both, seen, use).ends_at
    assert one is None or (two is not None and two <= one)


def _fields(lifetime: Lifetime) -> tuple[float | None, float | None, float | None]:
    return lifetime.after_last_job, lifetime.idle, lifetime.at
