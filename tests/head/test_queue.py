"""What the queue acknowledges is on disk, and what it refuses has no effect; in which order jobs start."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from clusterctl_runtime.head.autoscaler import job_demand
from clusterctl_runtime.head.jobs.book import SubmissionConflict
from clusterctl_runtime.head.jobs.lines import in_order
from clusterctl_runtime.head.jobs.queue import Names
from clusterctl_runtime.head.jobs.requests import MAX_ARRAY, MAX_BYTES, Batch, JobRequest
from clusterctl_runtime.head.storage.store import Store, StoreUnavailable
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from clusterctl.core.errors import BadRequest, Refused


def wanted(**request: Any) -> JobRequest:
    return JobRequest(argv=["true"], **request)


def submit(desk: Any, *requests: JobRequest) -> list[Any]:
    return asyncio.run(desk.queue.submit(requests))[0]


def startable(desk: Any) -> list[str]:
    return [
        job.id for job in in_order(desk.book.groups, {group: len(line) for group, line in desk.book.groups.items()})
    ]


def end(desk: Any, job: Any, state: str = "succeeded") -> None:
    if job.attempt:
        job.attempt.state = state
    desk.book.move(job, state)


class Disk:
    """Of a store; `full`: it takes nothing."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        self.seen: Callable[[], object] = lambda: None  # is called before each commit
        commit = store._commit

        def refusing(statements: Any) -> StoreUnavailable | None:
            self.seen()
            return StoreUnavailable("the disk is full") if self.full else commit(statements)

        monkeypatch.setattr(store, "_commit", refusing)


@pytest.fixture
def disk(desk: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk(desk.store, monkeypatch)
    yield disk
    disk.full = False


async def refused(work: Awaitable[Any]) -> None:
    with pytest.raises(StoreUnavailable):
        await work


# ------------------------------------------------------------ acknowledged, or without effect


@pytest.mark.parametrize("array", [None, [0, 1, 2]])
def test_a_submission_that_the_disk_refused_leaves_nothing_and_can_be_made_again(
    desk: Any, disk: Disk, array: list[int] | None
) -> None:
    seen: list[Any] = []
    disk.seen = lambda: seen.append((startable(desk), dict(desk.book.jobs), +desk.book.counts))
    disk.full = True
    asyncio.run(refused(desk.queue.submit([wanted(submission_id="x", array=array)])))
    assert seen[0] == ([], {}, {})  # nobody could have started any of it
    disk.full = False
    asyncio.run(desk.store.flush())
    assert (startable(desk), desk.book.jobs, desk.woken) == ([], {}, 0)
    desk.reopen()
    assert not desk.book.jobs and not desk.store.rows("SELECT * FROM requests")
    assert len(submit(desk, wanted(submission_id="x", array=array))) == len(startable(desk)) == len(array or [0])


def test_who_submits_the_same_meanwhile_is_told_what_became_of_it(desk: Any, disk: Disk) -> None:
    """The second must not be told that a job is accepted which is then taken back."""
    disk.full = True

    async def scenario() -> Any:
        first = asyncio.create_task(desk.queue.submit([wanted(submission_id="x")]))
        await asyncio.sleep(0)
        early = asyncio.create_task(desk.queue.submit([wanted(submission_id="y", after=["x"])]))
        second = asyncio.create_task(desk.queue.submit([wanted(submission_id="x")]))
        late = asyncio.create_task(desk.queue.submit([wanted(submission_id="z", after=["x"])]))
        await refused(first)
        disk.full = False
        with pytest.raises(BadRequest, match="no job 'x'"):
            await early
        assert (await late)[1]
        return await second

    jobs, created = asyncio.run(scenario())
    assert created and list(desk.book.jobs) == ["x", "z"] and jobs == [desk.book.jobs["x"]]


def test_a_job_that_the_disk_did_not_let_be_tried_again_stays_ended(desk: Any, disk: Disk) -> None:
    job = submit(desk, wanted(submission_id="x"))[0]
    end(desk, job, "failed")
    disk.full = True
    asyncio.run(refused(desk.queue.retry("x")))
    assert (job.state, startable(desk)) == ("failed", [])
    disk.full = False
    desk.reopen()
    assert desk.book.get("x").state == "failed"
    asyncio.run(desk.queue.retry("x"))
    assert startable(desk) == ["x"]


def test_of_two_who_try_a_job_again_at_the_same_time_one_does(desk: Any) -> None:
    end(desk, submit(desk, wanted(submission_id="x"))[0], "failed")

    async def both() -> list[Any]:
        return await asyncio.gather(desk.queue.retry("x"), desk.queue.retry("x"), return_exceptions=True)

    assert [type(outcome) for outcome in asyncio.run(both())][1] is Refused
    assert startable(desk) == ["x"]


def test_the_same_submission_id_is_the_same_job_and_another_body_is_refused(desk: Any) -> None:
    job = submit(desk, wanted(submission_id="train-1", name="a"))[0]
    assert submit(desk, wanted(submission_id="train-1", name="a")) == [job]
    desk.reopen()
    assert submit(desk, wanted(submission_id="train-1", name="a")) == [desk.book.get("train-1")]
    with pytest.raises(SubmissionConflict):
        submit(desk, wanted(submission_id="train-1", name="b"))


@pytest.mark.parametrize("first, second", [(None, [0, 1]), ([0, 1], None)])
def test_a_name_is_a_jobs_or_an_arrays(desk: Any, first: list[int] | None, second: list[int] | None) -> None:
    submit(desk, wanted(submission_id="x", array=first))
    with pytest.raises(SubmissionConflict):
        submit(desk, wanted(submission_id="x", array=second))
    with pytest.raises(SubmissionConflict):
        submit(desk, wanted(submission_id="y", array=first), wanted(submission_id="y", array=second))


def test_a_batch_that_names_two_jobs_alike_is_refused_as_a_whole(desk: Any) -> None:
    with pytest.raises(SubmissionConflict):
        submit(desk, wanted(submission_id="x"), wanted(submission_id="x", name="other"))
    assert not desk.book.jobs
    assert len(set(submit(desk, wanted(submission_id="x"), wanted(submission_id="x")))) == 1


def test_jobs_of_an_older_head_are_still_the_same_jobs(desk: Any) -> None:
    """It kept the whole request with each job, and in its digest."""
    request = wanted(submission_id="old", name="a", priority=3).model_dump(exclude={"array", "after"})
    body = {"id": "old", "seq": 1, "request": request, "digest": "of another kind", "state": "queued"}
    desk.store.write("INSERT INTO jobs VALUES (?,?,?)", ("old", 1, __import__("json").dumps(body)))
    desk.reopen()
    assert submit(desk, wanted(submission_id="old", name="a", priority=3)) == [desk.book.get("old")]
    desk.book.save(desk.book.get("old"))
    desk.reopen()
    assert desk.book.get("old").request["name"] == "a" and startable(desk) == ["old"]


# ------------------------------------------------------------ cancelling an array


def test_of_an_array_that_is_being_cancelled_nothing_starts_and_nothing_is_tried_again(desk: Any) -> None:
    jobs = submit(desk, wanted(submission_id="sweep", array=list(range(2000)), array_limit=1000, max_retries=1))
    other = submit(desk, wanted(submission_id="other"))[0]
    failing, held = jobs[0], jobs[-1]
    desk.work.assign(failing, ["cpu-1"])
    candidates: set[str] = set()

    async def scenario() -> None:
        cancelled = asyncio.create_task(desk.queue.cancel("sweep"))
        await asyncio.sleep(0)
        assert held.state == "queued"  # it is not done yet
        end(desk, failing, "queued")  # it failed just now, and had a retry left
        while not cancelled.done():
            candidates.update(startable(desk))
            await asyncio.sleep(0)
        assert len(await cancelled) == 2000

    asyncio.run(scenario())
    assert candidates == {"other"} and other.state == "queued"
    assert {job.state for job in jobs} == {"cancelled"}
    desk.reopen()
    assert desk.book.array("sweep").counts["cancelled"] == 2000
    asyncio.run(desk.queue.retry("sweep.7"))
    assert "sweep.7" in startable(desk)


# ------------------------------------------------------------ priority


def test_the_higher_priority_starts_first_and_of_one_priority_who_came_first(desk: Any) -> None:
    submit(desk, wanted(submission_id="low", priority=-1), wanted(submission_id="sweep", array=[0, 1]))
    submit(desk, wanted(submission_id="high", priority=5), wanted(submission_id="big", priority=5, cpus=2))
    submit(desk, wanted(submission_id="urgent", priority=100, array=[0, 1]))
    order = ["urgent.0", "urgent.1", "high", "big", "sweep.0", "sweep.1", "low"]
    assert startable(desk) == order
    assert [desk.book.before(desk.book.get(job_id)) for job_id in order] == list(range(7))
    desk.reopen()
    assert startable(desk) == order
    job = desk.book.get("urgent.0")
    desk.work.assign(job, ["cpu-1"])
    desk.book.move(job, "queued", "its node was lost")
    assert startable(desk) == order  # a job that is tried again has its old place


def test_the_planner_is_told_what_is_wanted_of_each_priority_the_highest_first(desk: Any) -> None:
    submit(desk, wanted(array=[0, 1, 2]), wanted(priority=7, array=[0, 1]), wanted(cpus=2))
    groups, demands = job_demand(desk.book)
    assert [(demand.priority, demand.count) for demand in demands] == [(7, 2), (0, 3), (0, 1)]
    assert [groups[demand.id].priority for demand in demands] == [7, 0, 0]


def test_why_a_job_waits_is_said_of_its_own_priority(desk: Any) -> None:
    low, high = submit(desk, wanted(), wanted(priority=1))
    waits = {job: {"code": job.id, "text": "", "fix": "", "eta": None} for job in (low, high)}
    desk.book.set_waits({job.group: [(1, wait)] for job, wait in waits.items()})
    assert [desk.book.wait_of(job) for job in (low, high)] == [waits[low], waits[high]]


# ------------------------------------------------------------ bounds


@pytest.mark.parametrize(
    "request_",
    [
        {"env": {"BIG": "x" * MAX_BYTES}},
        {"argv": ["true", *["y" * 1000] * 1100]},
        {"runtime_env": {"env_vars": {"BIG": "z" * MAX_BYTES}}},
        {"resources": {f"r{n}" * 20: 1 for n in range(20_000)}},
        {"env": {"BIG": "ü" * (MAX_BYTES // 2)}},
    ],
)
def test_a_request_that_is_too_long_is_refused_with_what_to_do(request_: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"may have 1024 KiB together, these have \d{4}: put what is long"):
        JobRequest(**{"argv": ["true"], **request_})


def test_a_long_request_below_the_bound_and_a_long_array_are_taken(desk: Any) -> None:
    JobRequest(argv=["true"], env={"BIG": "x" * (MAX_BYTES - 2000)}, array=list(range(MAX_ARRAY)))
    half = list(range(MAX_ARRAY // 2 + 1))
    with pytest.raises(BadRequest, match="100,002 jobs: submit at most 100,000"):
        submit(desk, wanted(array=half), wanted(array=half))


def test_the_faults_of_a_batch_have_their_place() -> None:
    batch = Batch(jobs=[{"argv": ["true"]}, {"argv": ["true"], "cpus": -1, "nodes": 0}])
    with pytest.raises(RequestValidationError) as refused_:
        asyncio.run(batch.requests())
    assert [error["loc"] for error in refused_.value.errors()] == [
        ("body", "jobs", 1, "nodes"),
        ("body", "jobs", 1, "cpus"),
    ]


def test_who_submits_the_same_at_the_same_moment_gets_the_same_jobs(desk: Any) -> None:
    request = wanted(submission_id="sweep", array=[1, 2, 3])

    async def scenario() -> tuple[Any, Any]:
        return await asyncio.gather(desk.queue.submit([request]), desk.queue.submit([request]))

    (first, created), (second, again) = asyncio.run(scenario())
    assert [job.id for job in first] == ["sweep.1", "sweep.2", "sweep.3"] and first == second
    assert (created, again) == (True, False) and desk.book.counts["queued"] == 3


@pytest.mark.parametrize(
    "coming, named",
    [
        ({"submission_id": "a", "array": [1, 2]}, "a"),
        ({"submission_id": "a", "array": [1, 2]}, "a.2"),
        ({"submission_id": "a.b", "array": [1]}, "a.b.1"),
        ({"submission_id": "j"}, "j"),
        ({"submission_id": "j.x"}, "j.x"),
    ],
)
def test_who_names_what_is_on_its_way_to_the_disk_waits_until_it_is_there(desk: Any, coming: Any, named: str) -> None:
    async def scenario() -> list[str]:
        submitting = asyncio.ensure_future(desk.queue.submit([wanted(**coming)]))
        await asyncio.sleep(0)
        cancelled = await desk.queue.cancel(named)
        await submitting
        return [job.state for job in cancelled]

    assert set(asyncio.run(scenario())) == {"cancelled"}


def test_an_array_waits_for_a_job_on_its_way_that_has_a_members_name(desk: Any) -> None:
    async def scenario() -> None:
        submitting = asyncio.ensure_future(desk.queue.submit([wanted(submission_id="a.1")]))
        await asyncio.sleep(0)
        with pytest.raises(SubmissionConflict):
            await desk.queue.submit([wanted(submission_id="a", array=[1, 2])])
        await submitting

    asyncio.run(scenario())
    assert list(desk.book.jobs) == ["a.1"]


def test_the_names_of_a_batch_are_its_jobs_its_arrays_and_their_members() -> None:
    batch = Names(
        [
            wanted(submission_id="a", array=[1, 20]),
            wanted(submission_id="a", array=[3]),
            wanted(submission_id="b.2"),
            wanted(),
        ]
    )
    known = {name: batch.owner(name) for name in ("a", "a.1", "a.20", "a.3", "b.2")}
    assert known == {"a": "a", "a.1": "a", "a.20": "a", "a.3": "a", "b.2": "b.2"}
    assert not any(name in batch for name in ("", "b", "a.2", "a.01", "a.\u0661", "a.1.1", "a.", "b.2.1"))
