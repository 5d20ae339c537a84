"""An agent that is told to end by anybody: its tasks are lost, not over; it says so first, and takes no more."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from clusterctl_runtime.wire import TaskSpec

T, U = "j/1/0", "k/1/0"
SAVES = 'trap "echo saved; exit 0" TERM; echo up; sleep 600 & wait'


@pytest.mark.parametrize("script", ["echo up; exec sleep 600", SAVES], ids=["dies of it", "saves and exits with 0"])
def test_tasks_of_an_agent_that_is_told_to_end_are_lost_however_their_programs_take_it(
    head: Any, start_agent: Any, script: str
) -> None:
    agent = start_agent()
    head.until_joined()
    head.run(TaskSpec(T, ["sh", "-c", script]))
    head.until(lambda: b"up" in head.log(T).data)
    agent.process.terminate()
    report = head.until_exited(T)
    assert report.lost and report.stopped == "killed"
    assert "asked to end" in report.error
    assert report.exit_code == (0 if script == SAVES else 128 + signal.SIGTERM)
    kinds = [message["t"] for message in head.said]
    ended = next(i for i, m in enumerate(head.said) if m["t"] == "tasks" and m["items"][0]["state"] == "exited")
    assert "ending" in kinds[:ended], "else what is tried again comes back here"
    assert agent.wait() == 0


def test_a_task_that_comes_to_an_agent_which_ends_is_answered_as_lost_and_never_runs(
    head: Any, start_agent: Any
) -> None:
    agent = start_agent()
    head.until_joined()
    head.run(TaskSpec(T, ["sh", "-c", "trap '' TERM; echo up; sleep 600"]))  # it takes the agent's grace to end
    head.until(lambda: b"up" in head.log(T).data)
    agent.process.terminate()
    head.until(lambda: any(message["t"] == "ending" for message in head.said))
    head.run(TaskSpec(U, ["sh", "-c", "echo ran"]))
    report = head.until_exited(U)
    assert report.lost and "never started" in report.error
    assert not head.log(U).data
    assert agent.wait() == 0


def test_a_program_that_a_shutdown_ends_an_instant_before_its_agent_is_lost(head: Any, start_agent: Any) -> None:
    """A machine that goes down sends SIGTERM to all processes, in any order."""
    agent = start_agent()
    head.until_joined()
    head.run(TaskSpec(T, ["sh", "-c", "echo up; exec sleep 600"]))
    head.until(lambda: b"up" in head.log(T).data)
    agent.process.send_signal(signal.SIGSTOP)  # both signals are there when it looks
    pid = head.reports[T][0]["pid"]
    os.kill(pid, signal.SIGTERM)
    agent.process.terminate()
    agent.process.send_signal(signal.SIGCONT)
    assert head.until_exited(T).lost


def test_a_program_that_somebody_else_kills_has_failed_while_its_agent_goes_on(head: Any, start_agent: Any) -> None:
    agent = start_agent()
    head.until_joined()
    head.run(TaskSpec(T, ["sh", "-c", "kill -TERM $$"]))
    report = head.until_exited(T)
    assert (report.lost, report.stopped, report.exit_code) == (False, "", 128 + signal.SIGTERM)
    agent.process.terminate()
    assert agent.wait() == 0


def test_a_signal_that_is_a_notice_leaves_work_its_time_and_ends_it_just_before_the_pod_goes(
    head: Any, start_agent: Any
) -> None:
    agent = start_agent(notice=12.0)
    head.until_joined()
    head.run(TaskSpec(T, ["sh", "-c", "echo up; sleep 600"]))
    head.until(lambda: b"up" in head.log(T).data)
    agent.process.terminate()
    head.until(lambda: any(message["t"] == "notice" for message in head.said))
    notice = next(message for message in head.said if message["t"] == "notice")
    assert notice["kind"] == "preempt" and 8 < notice["left"] <= 12
    assert head.reports[T][-1]["state"] != "exited", "what runs has the time"
    report = head.until_exited(T)
    assert report.lost and "time is up" in report.error
    assert agent.wait() == 0
