"""Attempts: what becomes of a job when its ranks end, are lost or are told to stop."""

from __future__ import annotations

from clusterctl_runtime.wire import TaskReport


def exited(task, code=0, **more):
    return TaskReport(task, "exited", exit_code=code, **more)


def kills(desk):
    return [(node, message["tasks"]) for node, message in desk.sent if message["t"] == "kill"]


def test_a_job_succeeds_when_its_only_rank_exits_with_zero(desk):
    job = desk.job()
    desk.work.assign(job, ["cpu-1"])
    desk.work.report("cpu-1", exited(f"{job.id}/1/0"))
    assert (job.state, job.exit_code, job.attempts[0].state) == ("succeeded", 0, "succeeded")
    assert not desk.ledger.get("cpu-1").holdings


def test_a_gang_lives_and_dies_together(desk):
    job = desk.job(nodes=2)
    desk.work.assign(job, ["cpu-1", "cpu-2"])
    desk.work.report("cpu-1", exited(f"{job.id}/1/0", 7))
    assert job.state == "running"
    assert kills(desk) == [("cpu-2", [f"{job.id}/1/1"])]
    desk.work.report("cpu-2", exited(f"{job.id}/1/1", 143, stopped="killed"))
    assert (job.state, job.exit_code) == ("failed", 7)
    assert "rank 0 exited with code 7" in job.reason


def test_a_failed_job_is_tried_again_as_often_as_it_asked_for_and_not_once_more(desk):
    job = desk.job(max_retries=2)
    for number in (1, 2, 3):
        assert job.state == "queued"
        desk.work.assign(job, ["cpu-1"])
        desk.work.report("cpu-1", exited(f"{job.id}/{number}/0", 1))
    assert job.state == "failed"
    assert [a.state for a in job.attempts] == ["failed"] * 3


def test_a_job_whose_node_is_lost_is_tried_again_without_being_asked(desk):
    job = desk.job()
    desk.work.assign(job, ["cpu-1"])
    desk.work.node_lost("cpu-1", "its machine is gone")
    assert (job.state, job.attempts[0].state) == ("queued", "lost")


def test_a_job_that_forbids_retries_fails_when_its_node_is_lost(desk):
    job = desk.job(max_retries=0)
    desk.work.assign(job, ["cpu-1"])
    desk.work.node_lost("cpu-1", "its machine is gone")
    assert job.state == "failed"
    assert "its machine is gone" in job.reason


def test_a_report_of_a_lost_attempt_is_answered_with_a_kill_and_changes_nothing(desk):
    job = desk.job()
    desk.work.assign(job, ["cpu-1"])
    desk.work.node_lost("cpu-1", "cut off")
    desk.work.assign(job, ["cpu-2"])
    desk.work.report("cpu-1", TaskReport(f"{job.id}/1/0", "running", pid=5))
    assert kills(desk) == [("cpu-1", [f"{job.id}/1/0"])]
    desk.work.report("cpu-1", exited(f"{job.id}/1/0", 0))
    assert job.state == "running"


def test_an_exit_reported_twice_counts_once(desk):
    job = desk.job(max_retries=5)
    desk.work.assign(job, ["cpu-1"])
    for _ in range(2):
        desk.work.report("cpu-1", exited(f"{job.id}/1/0", 1))
    assert job.retries_used == 1


def test_cancelling_a_running_job_ends_it_with_its_last_rank_and_never_retries_it(desk):
    job = desk.job(nodes=2, max_retries=3)
    desk.work.assign(job, ["cpu-1", "cpu-2"])
    desk.work.cancel(job)
    assert len(kills(desk)) == 2
    desk.work.report("cpu-1", exited(f"{job.id}/1/0", 143, stopped="killed"))
    assert job.state == "running"
    desk.work.report("cpu-2", exited(f"{job.id}/1/1", 0))
    assert job.state == "cancelled"


def test_what_a_node_does_not_know_any_more_when_it_joins_again_is_lost(desk):
    kept, forgotten = desk.job(), desk.job()
    for job in (kept, forgotten):
        desk.work.assign(job, ["cpu-1"])
    desk.work.reconcile("cpu-1", 1, [TaskReport(f"{kept.id}/1/0", "running", pid=1)])
    assert (kept.state, forgotten.state) == ("running", "queued")


def test_after_a_crash_of_the_head_running_attempts_keep_their_shares_and_their_order(desk):
    running, queued = desk.job(), desk.job()
    desk.work.assign(running, ["cpu-1"])
    desk.reopen()
    running, queued = desk.book.jobs[running.id], desk.book.jobs[queued.id]
    assert (running.state, queued.state) == ("running", "queued")
    assert list(desk.ledger.get("cpu-1").holdings) == [f"{running.id}/1/0"]
    desk.work.report("cpu-1", exited(f"{running.id}/1/0"))
    assert running.state == "succeeded"


def test_an_attempt_number_is_never_used_twice_not_even_after_a_crash(desk):
    job = desk.job()
    desk.work.assign(job, ["cpu-1"])
    desk.work.node_lost("cpu-1", "gone")
    desk.reopen()
    job = desk.book.jobs[job.id]
    assert desk.work.assign(job, ["cpu-2"]).id == f"{job.id}/2"


def test_a_retried_job_keeps_its_place_in_the_queue(desk):
    first, second = desk.job(max_retries=1), desk.job()
    desk.work.assign(first, ["cpu-1"])
    desk.work.report("cpu-1", exited(f"{first.id}/1/0", 1))
    assert list(desk.book.groups[first.group]) == [first, second]


def test_an_ended_job_that_is_tried_again_by_request_starts_with_a_fresh_budget(desk):
    job = desk.job(max_retries=0)
    desk.work.assign(job, ["cpu-1"])
    desk.work.report("cpu-1", exited(f"{job.id}/1/0", 1))
    desk.work.rerun(job)
    assert (job.state, job.exit_code) == ("queued", None)
    desk.work.assign(job, ["cpu-1"])
    desk.work.report("cpu-1", exited(f"{job.id}/2/0", 0))
    assert job.state == "succeeded"


def test_the_reason_of_a_timeout_names_the_timeout(desk):
    job = desk.job(timeout=5)
    desk.work.assign(job, ["cpu-1"])
    desk.work.report("cpu-1", exited(f"{job.id}/1/0", 143, stopped="timeout"))
    assert job.state == "failed"
    assert "longer than its timeout of 5 s" in job.reason
