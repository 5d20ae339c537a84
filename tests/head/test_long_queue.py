"""With a long queue: what one job costs, and what one turn of the event loop does, stay as they are with a short one."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
from clusterctl_runtime.head.api.jobs import list_jobs
from clusterctl_runtime.head.jobs.lines import Line
from clusterctl_runtime.head.jobs.requests import JobRequest
from clusterctl_runtime.head.turns import AT_ONCE

from clusterctl.core.errors import UsageError

MANY = 12 * AT_ONCE


def wanted(**request: Any) -> JobRequest:
    return JobRequest(argv=["true"], **request)


def steps(work: Callable[[], object]) -> int:
    """How many instructions of Python `work` takes: the same in every run, on every machine."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


async def most_at_once(work: Awaitable[Any], figure: Callable[[], int]) -> int:
    """By how much `figure` changes in one turn of the loop, at most, until `work` is done."""
    task, most, last = asyncio.ensure_future(work), 0, figure()
    while not task.done():
        await asyncio.sleep(0)
        most, last = max(most, abs(figure() - last)), figure()
    await task
    return most


class Number(int):
    """Counts how often it is compared."""

    compared = 0

    def __lt__(self, other: int) -> bool:
        Number.compared += 1
        return int(self) < other

    def __gt__(self, other: int) -> bool:
        Number.compared += 1
        return int(self) > other

    __hash__ = int.__hash__


def comparisons_of_a_put_back(length: int) -> int:
    line = Line()
    jobs: list[Any] = [SimpleNamespace(seq=Number(n), array_id="") for n in range(length)]
    for job in jobs:
        line.put(job)
    Number.compared = 0
    for job in jobs[:10]:
        line.take(job)
    for job in reversed(jobs[:10]):
        line.put(job)
    assert [job.seq for job, _ in zip(line, range(20), strict=False)] == list(range(20))
    assert line.first is jobs[0] and line.place(jobs[length - 1]) == length - 1
    return Number.compared


def test_a_job_that_is_put_back_is_compared_with_few_others_however_long_the_line_is() -> None:
    assert comparisons_of_a_put_back(64_000) < 2 * comparisons_of_a_put_back(1000)


def filled(desk: Any, count: int) -> Any:
    asyncio.run(desk.queue.submit([wanted(submission_id=f"sweep{count}", array=list(range(count)))]))
    group = next(iter(desk.book.groups))
    desk.book.set_waits(
        {
            group: [
                (count // 2, {"code": "launching", "text": "launching"}),
                (count, {"code": "no_offer", "text": "no offer"}),
            ]
        }
    )
    return desk


def test_a_page_of_a_long_list_costs_what_one_of_a_short_list_costs(desk: Any) -> None:
    def page() -> None:
        assert (
            len(asyncio.run(list_jobs(SimpleNamespace(book=desk.book, engine=None), limit=50, before=None))["jobs"])
            == 50
        )  # type: ignore[arg-type]

    filled(desk, 200)
    page()  # the first call imports
    short = steps(page)
    filled(desk, 20_000)
    assert steps(page) < 1.3 * short


def test_the_pages_of_a_list_are_the_whole_list_whatever_comes_and_goes_between_them(desk: Any) -> None:
    async def scenario() -> list[str]:
        head: Any = SimpleNamespace(book=desk.book, engine=None)
        await desk.queue.submit([wanted(submission_id="a"), wanted(submission_id="s", array=list(range(25)))])
        found, page = [], await list_jobs(head, limit=10, array="s", before=None)
        while True:
            found += [job["id"] for job in page["jobs"]]
            await desk.queue.submit([wanted()])
            if page["next"] is None:
                assert page["counts"] == {"queued": 25}
                return found
            page = await list_jobs(head, limit=10, array="s", before=page["next"])

    assert asyncio.run(scenario()) == [f"s.{n}" for n in reversed(range(25))]


def test_jobs_are_found_by_state_and_by_words_on_whatever_page_they_are(desk: Any) -> None:
    async def ids(**which: Any) -> tuple[list[str], int | None]:
        page = await list_jobs(SimpleNamespace(book=desk.book, engine=None), **{"limit": 10, "before": None, **which})  # type: ignore[arg-type]
        return [job["id"] for job in page["jobs"]], page["next"]

    async def scenario() -> None:
        await desk.queue.submit([JobRequest(argv=["train.py", "--Fast"], submission_id="needle", user="alice")])
        await desk.queue.submit([wanted(submission_id="hay", array=list(range(30)))])
        await desk.queue.cancel("hay.7")
        assert await ids(match="fast ALICE") == (["needle"], None)
        assert await ids(match="fast bob") == ([], None)
        assert await ids(state="cancelled") == (["hay.7"], None)
        assert await ids(state="cancelled", limit=1) == (["hay.7"], None), "there is no page behind the last job"
        with pytest.raises(UsageError, match="no job has the state 'runing': they are queued, running, succeeded, "):
            await ids(state="runing")

    asyncio.run(scenario())


def test_intake_and_cancelling_of_a_long_array_let_others_have_their_turn(desk: Any) -> None:
    async def scenario() -> None:
        submission = desk.queue.submit([wanted(submission_id="sweep", array=list(range(MANY)))])
        assert await most_at_once(submission, lambda: len(desk.book.jobs)) <= AT_ONCE
        assert await most_at_once(desk.queue.cancel("sweep"), lambda: desk.book.counts["cancelled"]) <= AT_ONCE
        assert desk.book.counts["cancelled"] == MANY

    asyncio.run(scenario())


def test_many_jobs_that_waited_for_one_are_let_go_or_cancelled_in_turns(desk: Any) -> None:
    def queued() -> int:
        return sum(len(line) for line in desk.book.groups.values())

    async def until_all(figure: Callable[[], int], count: int) -> None:
        while figure() != count:
            await asyncio.sleep(0)

    async def scenario() -> None:
        await desk.queue.submit([wanted(submission_id="good"), wanted(submission_id="bad")])
        await desk.queue.submit([wanted(submission_id="a", array=list(range(MANY)), after=["good"])])
        await desk.queue.submit([wanted(submission_id="b", array=list(range(MANY)), after=["bad"])])
        desk.book.move(desk.book.get("good"), "succeeded")
        assert desk.book.wait_of(desk.book.get(f"a.{MANY - 1}"))["text"].startswith("what it waited for has ended")
        assert await most_at_once(until_all(queued, MANY + 1), queued) <= AT_ONCE
        desk.book.move(desk.book.get("bad"), "failed")
        cancelled = lambda: desk.book.counts["cancelled"]  # noqa: E731
        assert await most_at_once(until_all(cancelled, MANY), cancelled) <= AT_ONCE

    asyncio.run(scenario())
    desk.reopen()
    assert desk.book.counts["cancelled"] == MANY and len(desk.book.groups) == 1


def test_a_head_that_died_while_it_let_jobs_go_lets_go_the_others_at_its_next_start(desk: Any) -> None:
    async def scenario() -> None:
        await desk.queue.submit([wanted(submission_id="good")])
        await desk.queue.submit([wanted(submission_id="a", array=list(range(MANY)), after=["good"])])
        desk.book.move(desk.book.get("good"), "succeeded")
        await desk.store.flush()

    asyncio.run(scenario())
    desk.reopen()
    assert [len(line) for line in desk.book.groups.values()] == [MANY]
