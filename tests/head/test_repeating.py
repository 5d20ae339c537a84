"""What is wanted is said until it has come true; what could not be said concerns nobody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from clusterctl_runtime import wire
from clusterctl_runtime.head.nodes.fleet import Fleet
from clusterctl_runtime.head.storage.store import StoreUnavailable
from clusterctl_runtime.wire import TaskReport, TaskSpec

from clusterctl.provision.journal.book import Journal
from tests.head.conftest import Desk


def kills(desk: Desk) -> list[str]:
    return [task for _, message in desk.sent if message["t"] == "kill" for task in message["tasks"]]


def running(task: str, ran: float | None = 0.0) -> TaskReport:
    return TaskReport(task, "running", pid=1, ran=ran)


def test_a_task_that_should_end_is_told_so_each_time_that_it_is_reported(desk: Any) -> None:
    job = desk.job()
    task = desk.work.assign(job, ["cpu-1"]).id + "/0"
    desk.work.cancel(job)
    desk.sent.clear()  # the connection broke: it never came there
    desk.work.reconcile("cpu-1", 1, [running(task)])
    assert kills(desk) == [task]
    desk.reopen()
    desk.work.reconcile("cpu-1", 1, [running(task)])
    assert kills(desk) == [task] * 2, "a head that was restarted knows it, too"


def test_a_job_that_is_cancelled_again_is_told_to_end_again(desk: Any) -> None:
    job = desk.job()
    desk.work.assign(job, ["cpu-1"])
    desk.work.cancel(job)
    desk.work.cancel(job)
    assert len(kills(desk)) == 2


def test_the_other_rank_of_a_failed_gang_is_told_to_end_when_its_node_is_back(desk: Any) -> None:
    job = desk.job(nodes=2)
    attempt = desk.work.assign(job, ["cpu-1", "cpu-2"])
    desk.work.report("cpu-1", TaskReport(f"{attempt.id}/0", "exited", exit_code=1))
    desk.sent.clear()
    desk.work.reconcile("cpu-2", 1, [running(f"{attempt.id}/1")])
    assert kills(desk) == [f"{attempt.id}/1"]


@pytest.mark.parametrize("code", [0, 143])
def test_a_program_that_its_agents_end_took_along_is_tried_again_whatever_its_exit_code(desk: Any, code: int) -> None:
    job = desk.job()
    task = desk.work.assign(job, ["cpu-1"]).id + "/0"
    error = "this node's agent was asked to end"
    desk.work.report("cpu-1", TaskReport(task, "exited", exit_code=code, stopped="killed", error=error, lost=True))
    assert (job.state, job.losses, job.attempts[0].state) == ("queued", 1, "lost")
    assert error in job.reason


def test_an_end_that_nobody_asked_for_is_a_loss_though_the_agent_does_not_call_it_one(desk: Any) -> None:
    job = desk.job()
    task = desk.work.assign(job, ["cpu-1"]).id + "/0"
    desk.work.report("cpu-1", TaskReport(task, "exited", exit_code=143, stopped="killed"))
    assert (job.state, job.losses) == ("queued", 1)


def test_a_job_runs_for_as_long_as_its_program_however_often_its_node_reconnects(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr("clusterctl_runtime.head.jobs.attempts.steady_time", lambda: now)
    job = desk.job()
    attempt = desk.work.assign(job, ["cpu-1"])
    task = f"{attempt.id}/0"
    now += 30  # it waited behind another one
    desk.work.report("cpu-1", running(task, ran=None))
    now += 10
    desk.work.report("cpu-1", running(task))
    began = now
    now += 36_000
    desk.work.reconcile("cpu-1", 1, [running(task, ran=35_999)])  # the report was a second on its way
    assert attempt.started == began
    now += 60
    desk.work.report("cpu-1", TaskReport(task, "exited", exit_code=0))
    assert attempt.ended - attempt.started == 36_060


# ------------------------------------------------------------ messages of tasks


def launch(desk: Any, jobs: list[tuple[Any, str, str]]) -> None:
    starts = []
    for job, node, text in jobs:
        attempt = desk.work.assign(job, [node])
        starts.append((job, attempt, spec_of(attempt.id, text)))
    desk.work.launch(starts)


def spec_of(attempt_id: str, text: str) -> Callable[[int], TaskSpec]:
    return lambda rank: TaskSpec(f"{attempt_id}/{rank}", ["true"], env={"X": text})


def encoding(desk: Any) -> list[int]:
    """Messages are made into frames as a connection does. Returns the sizes of those that could be."""
    sizes: list[int] = []

    def send(node_id: str, message: dict[str, Any]) -> bool:
        sizes.append(len(wire.encode(message)))
        desk.sent.append((node_id, message))
        return True

    desk.work._send = send
    return sizes


def test_many_large_jobs_on_one_node_are_sent_in_parts(desk: Any) -> None:
    sizes = encoding(desk)
    jobs = [(desk.job(cpus=0), "cpu-1", "a" * 1_000_000) for _ in range(18)]
    launch(desk, [*jobs, (desk.job(cpus=0), "cpu-2", "small")])
    assert max(sizes) < wire.MAX_HEADER / 2 and len(sizes) > 4
    sent = [task["task"] for _, message in desk.sent for task in message["tasks"]]
    assert sent == [f"{job.id}/1/0" for job in desk.book.jobs.values()]


def test_a_task_that_no_message_can_hold_fails_with_the_reason_and_its_neighbours_are_sent(desk: Any) -> None:
    encoding(desk)
    before, huge, after = (desk.job(cpus=0) for _ in range(3))
    launch(desk, [(before, "cpu-1", "x"), (huge, "cpu-1", "a" * wire.MAX_HEADER), (after, "cpu-2", "x")])
    assert (before.state, huge.state, after.state) == ("running", "failed", "running")
    assert "too large" in huge.reason and "smaller" in huge.reason
    assert f"{huge.id}/1/0" not in desk.ledger.get("cpu-1").holdings


def test_what_could_not_be_sent_because_its_node_is_away_goes_back_to_the_queue_at_once(desk: Any) -> None:
    desk.work._send = lambda node_id, message: node_id != "cpu-1"
    single, gang = desk.job(), desk.job(nodes=2)
    attempt = desk.work.assign(gang, ["cpu-2", "cpu-1"])
    launch(desk, [(single, "cpu-1", "")])
    desk.work.launch([(gang, attempt, spec_of(attempt.id, ""))])
    assert (single.state, single.losses) == ("queued", 0)
    assert attempt.stopping == "recalled", "its other rank is told to end"
    desk.work.report("cpu-2", TaskReport(f"{attempt.id}/0", "exited", exit_code=143, stopped="killed"))
    assert (gang.state, gang.losses) == ("queued", 0)


def test_a_job_that_is_cancelled_while_its_attempt_is_written_down_never_begins(desk: Any) -> None:
    job = desk.job()
    attempt = desk.work.assign(job, ["cpu-1"])
    desk.work.cancel(job)
    desk.work.launch([(job, attempt, spec_of(attempt.id, ""))])
    assert job.state == "cancelled"
    assert not [message for _, message in desk.sent if message["t"] == "run"]


def test_a_node_without_books_gets_no_attempt(desk: Any) -> None:
    job = desk.job()
    with pytest.raises(LookupError, match="cpu-9"):
        desk.work.assign(job, ["cpu-1", "cpu-9"])
    assert job.state == "queued" and not job.attempts and not desk.ledger.get("cpu-1").holdings


# ------------------------------------------------------------ acknowledging


def test_a_full_disk_delays_what_is_said_of_ends_and_not_of_output(
    desk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program whose output nobody acknowledges stands still."""
    monkeypatch.setattr("clusterctl_runtime.head.nodes.acks.FULL_DISK_PAUSE", 0.01)
    journal = Journal(tmp_path / "nodes.db", strict=True)
    none: Any = lambda: None  # noqa: E731
    fleet = Fleet(journal, desk.ledger, desk.logs, desk.events, desk.store, 1, none, none)
    fleet.work = desk.work
    sent: list[dict[str, Any]] = []
    session: Any = SimpleNamespace(node_id="cpu-1", generation=1, send=sent.append)
    fleet.sessions["cpu-1"] = session
    job = desk.job()
    task = desk.work.assign(job, ["cpu-1"]).id + "/0"
    full = True

    async def flush() -> None:
        if full:
            raise StoreUnavailable("the disk is full")

    async def scene() -> None:
        nonlocal full
        monkeypatch.setattr(desk.store, "flush", flush)
        fleet.received(session, {"t": "log", "task": "other/1/0", "offset": 0}, b"words")
        fleet.received(session, {"t": "tasks", "items": [TaskReport(task, "exited", exit_code=0).to_json()]}, b"")
        while not sent:
            await asyncio.sleep(0.005)
        assert sent == [{"t": "ack", "tasks": [], "logs": {"other/1/0": 5}}]
        full = False
        while len(sent) == 1:
            await asyncio.sleep(0.005)
        assert sent[1] == {"t": "ack", "tasks": [task], "logs": {}}

    asyncio.run(asyncio.wait_for(scene(), 60))
    journal.close()
