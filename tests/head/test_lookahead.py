"""Short jobs are sent ahead, long ones are not, and what waits behind a surprise comes back."""

from __future__ import annotations

import pytest
from clusterctl_runtime.head.jobs import lookahead
from clusterctl_runtime.head.jobs.lookahead import AHEAD_SECONDS, DEEPEST, Lookahead
from clusterctl_runtime.wire import TaskReport


@pytest.fixture
def ahead(desk):
    ahead = Lookahead(desk.book, desk.ledger, desk._send)
    desk.work.ended = ahead.ended
    for books in desk.ledger:
        books.connected = True
    return ahead


def begin(desk, ahead, node="cpu-1"):
    job = desk.job()
    desk.work.assign(job, [node])
    ahead.started(job, f"{job.id}/1/0", node)
    return job


def end(desk, job, seconds, node="cpu-1"):
    desk.work.report(
        node, TaskReport(f"{job.id}/{len(job.attempts)}/0", "exited", exit_code=0, started=100.0, ended=100.0 + seconds)
    )


def send_ahead(desk, ahead, reserved=(), most=100):
    sent = []
    for job, node, after in ahead.room(reserved, most):
        attempt = desk.work.assign(job, [node])
        ahead.started(job, f"{attempt.id}/0", node, after)
        sent.append((job, after))
    return sent


def test_jobs_of_a_kind_that_is_short_are_sent_ahead_in_order_each_after_the_one_before(desk, ahead):
    end(desk, begin(desk, ahead), AHEAD_SECONDS / 10)
    first = begin(desk, ahead)
    waiting = [desk.job() for _ in range(15)]
    sent = send_ahead(desk, ahead)
    assert 9 <= len(sent) <= 10
    assert [job for job, _ in sent] == waiting[: len(sent)]
    assert [after for _, after in sent] == [f"{job.id}/1/0" for job in [first, *waiting[: len(sent) - 1]]]


def test_however_short_jobs_are_only_so_many_wait_on_one_slot(desk, ahead):
    end(desk, begin(desk, ahead), 0.0)
    begin(desk, ahead)
    for _ in range(DEEPEST + 10):
        desk.job()
    assert len(send_ahead(desk, ahead)) == DEEPEST


@pytest.mark.parametrize("seconds", [None, 5.0])
def test_jobs_of_a_kind_that_is_long_or_unknown_are_not_sent_ahead(desk, ahead, seconds):
    if seconds is not None:
        end(desk, begin(desk, ahead), seconds)
    begin(desk, ahead)
    desk.job()
    assert send_ahead(desk, ahead) == []


def test_nothing_is_sent_ahead_to_a_node_that_a_starving_job_keeps(desk, ahead):
    end(desk, begin(desk, ahead), 0.01)
    begin(desk, ahead)
    desk.job()
    assert send_ahead(desk, ahead, reserved={"cpu-1"}) == []
    assert len(send_ahead(desk, ahead, reserved={"cpu-2"})) == 1


def test_nothing_is_sent_ahead_to_a_node_that_is_draining_or_lent_to_the_engine(desk, ahead):
    end(desk, begin(desk, ahead), 0.01)
    begin(desk, ahead)
    desk.job()
    books = desk.ledger.get("cpu-1")
    books.drain = "requested"
    assert send_ahead(desk, ahead) == []
    books.drain = ""
    books.engine.state = "ready"
    assert send_ahead(desk, ahead) == []


def test_what_waits_behind_a_job_that_lasts_too_long_is_called_back_and_queued_again_for_free(desk, ahead, monkeypatch):
    end(desk, begin(desk, ahead), 0.01)
    begin(desk, ahead)
    behind = desk.job(max_retries=0)
    send_ahead(desk, ahead)
    assert behind.state == "running"
    monkeypatch.setattr(lookahead, "PATIENCE_SECONDS", -1.0)
    assert ahead.recall_late()
    recall = f"{behind.id}/1/0"
    assert ("cpu-1", {"t": "recall", "tasks": [recall]}) in desk.sent
    desk.work.report("cpu-1", TaskReport(recall, "exited", stopped="recalled"))
    assert (behind.state, behind.retries_used, behind.losses) == ("queued", 0, 0)
    assert behind.attempts[0].state == "recalled"


def test_a_follower_takes_no_room_that_its_node_does_not_have(desk, ahead):
    end(desk, begin(desk, ahead), 0.01)
    for _ in range(4):
        begin(desk, ahead)
    for _ in range(20):
        desk.job()
    send_ahead(desk, ahead)
    assert not desk.ledger.get("cpu-1").free
    assert desk.ledger.get("cpu-2").free.get("CPU") == 4


def test_the_more_urgent_of_a_kind_is_sent_ahead_first(desk, ahead):
    end(desk, begin(desk, ahead), 0.01)
    begin(desk, ahead)
    low = desk.job()
    high = desk.job(priority=1)
    assert [job for job, _ in send_ahead(desk, ahead)] == [high, low]


@pytest.mark.parametrize("cpus, kept", [(2, True), (5, False)])
def test_a_node_that_a_more_urgent_job_of_another_kind_could_use_gets_nothing_ahead(desk, ahead, cpus, kept):
    end(desk, begin(desk, ahead), 0.01)
    begin(desk, ahead)
    desk.job()
    urgent = desk.job(priority=1, cpus=cpus)
    assert (send_ahead(desk, ahead) == []) == kept
    desk.work.cancel(urgent)
    desk.job()
    assert len(send_ahead(desk, ahead)) == 2 - (not kept)
