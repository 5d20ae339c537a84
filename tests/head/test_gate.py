"""Jobs that wait for others, and arrays of which only so many run at the same time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from clusterctl_runtime.head.jobs.requests import JobRequest

from clusterctl.core.errors import BadRequest


def submit(desk: Any, *requests: dict[str, Any]) -> list[Any]:
    wanted = [JobRequest(argv=["true"], **request) for request in requests]
    return asyncio.run(desk.queue.submit(wanted))[0]


def startable(desk: Any) -> list[str]:
    return [job.id for line in desk.book.groups.values() for job in line]


def run(desk: Any, job_id: str) -> None:
    desk.work.assign(desk.book.get(job_id), ["cpu-1"])


def end(desk: Any, job_id: str, state: str = "succeeded") -> None:
    job = desk.book.get(job_id)
    if job.attempt:
        job.attempt.state = state
    desk.book.move(job, state)


def test_a_job_starts_only_when_the_one_before_it_succeeded(desk: Any) -> None:
    submit(desk, {"submission_id": "first"}, {"submission_id": "second", "after": ["first"]})
    assert startable(desk) == ["first"]
    wait = desk.book.wait_of(desk.book.get("second"))
    assert (wait["code"], wait["text"]) == ("dependency", "waiting for first to succeed")
    run(desk, "first")
    assert startable(desk) == []
    end(desk, "first")
    assert startable(desk) == ["second"] and desk.book.wait_of(desk.book.get("second")) is None


@pytest.mark.parametrize("after", ["first", "sweep", "sweep.1"])
def test_in_a_batch_a_job_may_follow_one_that_stands_behind_it(desk: Any, after: str) -> None:
    others = [{"submission_id": "first"}, {"submission_id": "sweep", "array": [0, 1]}]
    submit(desk, {"submission_id": "second", "after": [after]}, *others)
    assert startable(desk) == ["first", "sweep.0", "sweep.1"]
    assert desk.book.wait_of(desk.book.get("second"))["text"] == f"waiting for {after} to succeed"
    for job_id in ("first", "sweep.0", "sweep.1"):
        end(desk, job_id)
    assert startable(desk) == ["second"]


@pytest.mark.parametrize(
    "batch, says",
    [
        ([("a", ["b"]), ("b", ["a"])], "a after b after a|b after a after b"),
        (
            [("a", ["c"]), ("b", ["a:any"]), ("c", ["x", "b"])],
            "a after c after b after a|c after b after a after c|b after a",
        ),
        ([("sweep", ["report"]), ("report", ["sweep.1"])], "sweep after report|report after sweep"),
        ([("sweep", ["sweep.0"])], "sweep after sweep"),
    ],
)
def test_jobs_that_wait_for_each_other_are_refused_by_name_and_none_is_taken(
    desk: Any, batch: list[tuple[str, list[str]]], says: str
) -> None:
    submit(desk, {"submission_id": "x"})
    arrays = {"sweep": [0, 1]}
    wanted = [{"submission_id": name, "after": after, "array": arrays.get(name)} for name, after in batch]
    with pytest.raises(BadRequest, match=f"wait for each other, so none of them could ever start: ({says})"):
        submit(desk, *wanted)
    assert list(desk.book.jobs) == ["x"]


def test_of_a_long_circle_a_part_is_named(desk: Any) -> None:
    circle = [{"submission_id": f"j{n}", "after": [f"j{(n + 1) % 500}"]} for n in range(500)]
    with pytest.raises(BadRequest) as refused:
        submit(desk, *circle)
    assert len(str(refused.value)) < 200


def test_who_waits_for_a_job_is_told_when_it_may_start(desk: Any) -> None:
    told = []
    desk.book.released = lambda job: told.append(job.id)
    submit(desk, {"submission_id": "a"}, {"submission_id": "b", "after": ["a"]}, {"submission_id": "c"})
    end(desk, "c")
    assert told == []
    end(desk, "a")
    assert told == ["b"]


@pytest.mark.parametrize("how, state", [("failed", "cancelled"), ("cancelled", "cancelled")])
def test_what_follows_a_job_that_did_not_succeed_is_cancelled_with_a_reason(desk: Any, how: str, state: str) -> None:
    submit(desk, {"submission_id": "a", "name": "prepare"}, {"submission_id": "b", "after": ["a"]})
    end(desk, "a", how)
    job = desk.book.get("b")
    assert job.state == state
    assert job.reason.startswith("prepare (a), which it was to follow, ") and how in job.reason
    assert "cancelled" in [event["code"] for event in desk.events.newest(10, "b")]


def test_after_any_a_job_starts_however_the_other_ended(desk: Any) -> None:
    submit(desk, {"submission_id": "a"}, {"submission_id": "b", "after": ["a:any"]})
    end(desk, "a", "failed")
    assert startable(desk) == ["b"]


def test_a_long_chain_of_followers_is_cancelled_as_a_whole(desk: Any) -> None:
    chain = [{"submission_id": "j0"}] + [{"submission_id": f"j{n}", "after": [f"j{n - 1}"]} for n in range(1, 3000)]
    submit(desk, *chain)
    end(desk, "j0", "failed")
    assert desk.book.counts["cancelled"] == 2999 and desk.book.counts["queued"] == 0


def test_a_job_that_waits_for_an_array_waits_for_all_of_it(desk: Any) -> None:
    submit(desk, {"submission_id": "sweep", "array": [0, 1, 2]}, {"submission_id": "report", "after": ["sweep:any"]})
    for member, state in (("sweep.0", "succeeded"), ("sweep.2", "failed")):
        end(desk, member, state)
        assert "report" not in startable(desk)
    end(desk, "sweep.1")
    assert startable(desk) == ["report"]


def test_one_failed_member_of_an_array_is_enough_to_cancel_what_needs_its_success(desk: Any) -> None:
    submit(desk, {"submission_id": "sweep", "array": [0, 1]}, {"submission_id": "report", "after": ["sweep:ok"]})
    end(desk, "sweep.1", "failed")
    assert desk.book.get("report").state == "cancelled"


def test_of_an_array_with_a_limit_so_many_run_at_the_same_time_and_the_next_follow_in_order(desk: Any) -> None:
    submit(desk, {"submission_id": "sweep", "array": list(range(5)), "array_limit": 2})
    assert startable(desk) == ["sweep.0", "sweep.1"]
    assert desk.book.wait_of(desk.book.get("sweep.2"))["code"] == "array_limit"
    run(desk, "sweep.0")
    run(desk, "sweep.1")
    assert startable(desk) == []
    end(desk, "sweep.1", "failed")
    assert startable(desk) == ["sweep.2"]
    end(desk, "sweep.0")
    assert startable(desk) == ["sweep.2", "sweep.3"]


def test_a_member_that_is_tried_again_keeps_its_place_in_the_limit(desk: Any) -> None:
    submit(desk, {"submission_id": "sweep", "array": [0, 1], "array_limit": 1})
    run(desk, "sweep.0")
    desk.book.move(desk.book.get("sweep.0"), "queued", "its node was lost")
    assert startable(desk) == ["sweep.0"]


def test_cancelling_a_held_member_lets_nobody_else_through(desk: Any) -> None:
    submit(desk, {"submission_id": "sweep", "array": [0, 1, 2], "array_limit": 1})
    desk.work.cancel(desk.book.get("sweep.1"))
    assert startable(desk) == ["sweep.0"]
    end(desk, "sweep.0")
    assert startable(desk) == ["sweep.2"]


def test_a_new_process_holds_the_same_jobs(desk: Any) -> None:
    submit(desk, {"submission_id": "sweep", "array": [0, 1, 2], "array_limit": 1}, {"submission_id": "a"})
    submit(desk, {"submission_id": "b", "after": ["a", "sweep:any"]})
    run(desk, "sweep.0")
    end(desk, "a")
    desk.reopen()
    assert startable(desk) == []
    assert desk.book.wait_of(desk.book.get("b"))["text"] == "waiting for sweep to end"
    for member in ("sweep.0", "sweep.1", "sweep.2"):
        end(desk, member)
    assert startable(desk) == ["b"]


def test_a_head_that_died_between_a_failure_and_its_consequence_draws_it_at_the_next_start(desk: Any) -> None:
    submit(desk, {"submission_id": "a"}, {"submission_id": "b", "after": ["a"]})
    job = desk.book.get("a")
    job.state = "failed"
    desk.book.save(job)
    desk.reopen()
    assert desk.book.get("b").state == "cancelled"


@pytest.mark.parametrize(
    "request_, says",
    [
        ({"after": ["nobody"]}, "there is no job 'nobody' to wait for"),
        ({"submission_id": "me", "after": ["me"]}, "there is no job 'me' to wait for"),
        ({"after": ["bad"]}, "clusterctl job retry bad"),
        ({"array_limit": 3}, "give `array`"),
    ],
)
def test_a_condition_that_can_never_be_met_is_refused(desk: Any, request_: dict[str, Any], says: str) -> None:
    submit(desk, {"submission_id": "bad"})
    end(desk, "bad", "failed")
    with pytest.raises(BadRequest, match=says):
        submit(desk, request_)
    assert len(desk.book.jobs) == 1


def test_the_same_submission_is_the_same_job_also_after_the_one_it_followed_failed(desk: Any) -> None:
    first = submit(desk, {"submission_id": "a"}, {"submission_id": "b", "after": ["a"]})[1]
    end(desk, "a", "failed")
    assert submit(desk, {"submission_id": "b", "after": ["a"]}) == [first]
