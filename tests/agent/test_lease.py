"""The head goes and comes back, or does not."""

from __future__ import annotations

import os
from pathlib import Path

from clusterctl_runtime.wire import TaskSpec

from tests.support.cluster import wait_until

T = "j-1/1/0"


def test_a_head_that_is_restarted_finds_the_work_undisturbed(head, start_agent, tmp_path) -> None:
    start_agent()
    head.until_joined()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    head.run(TaskSpec(T, ["/bin/sh", "-c", f"echo before; read word < {fifo}; echo $word; exit 5"]))
    head.until(lambda: head.log(T).data == b"before\n")
    head.stop()
    head.start()
    (known,) = head.until_joined(times=2)["tasks"]
    assert known["task"] == T and known["state"] == "running"
    fifo.write_text("after\n")
    assert head.until_exited(T).exit_code == 5
    assert head.log(T).data == b"before\nafter\n"


def test_what_ended_while_the_head_was_away_is_in_the_hello_and_its_log_follows(head, start_agent, tmp_path) -> None:
    start_agent()
    head.until_joined()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    head.run(TaskSpec(T, ["/bin/sh", "-c", f"read word < {fifo}; echo $word; exit 5"]))
    head.until(lambda: T in head.reports)
    head.stop()
    fifo.write_text("alone\n")
    pid = head.reports[T][-1]["pid"]
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
    head.start()
    (known,) = head.until_joined(times=2)["tasks"]
    assert known["state"] == "exited" and known["exit_code"] == 5
    assert head.until_exited(T).log_size == 6 and head.log(T).data == b"alone\n"


def test_an_acknowledged_task_is_forgotten(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    head.run(TaskSpec(T, ["/bin/echo", "x"]))
    head.until_exited(T)
    head.send("kill", tasks=["j-0/0/0"], grace_seconds=0, reason="")
    head.until_exited("j-0/0/0")
    head.stop()
    head.start()
    assert head.until_joined(times=2)["tasks"] == []


def test_a_node_whose_head_stays_away_ends_its_work_and_itself(head, start_agent) -> None:
    agent = start_agent(orphan_timeout=1.0)
    head.until_joined()
    head.run(TaskSpec(T, ["/bin/sleep", "600"]))
    head.until(lambda: T in head.reports)
    head.stop()
    assert agent.wait() == 4
    assert "silent for 1 s" in agent.stderr
    wait_until(lambda: not agent.alive())


def test_a_node_that_never_reaches_its_head_ends_itself(head, start_agent) -> None:
    agent = start_agent(orphan_timeout=0.5, heads=["127.0.0.1:1"])
    assert agent.wait() == 4


def test_a_machine_whose_head_stays_away_turns_itself_off(head, start_agent, tmp_path) -> None:
    tool = tmp_path / "bin" / "systemctl"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\necho $1 > {tmp_path}/called\n")
    tool.chmod(0o755)
    path = f"{tool.parent}:{os.environ['PATH']}"
    agent = start_agent(orphan_timeout=0.5, shutdown="poweroff", heads=["127.0.0.1:1"], env={"PATH": path})
    assert agent.wait() == 4
    assert (tmp_path / "called").read_text() == "poweroff\n"


def test_a_signal_ends_the_agent_but_not_the_machine(head, start_agent, tmp_path) -> None:
    tool = tmp_path / "bin" / "systemctl"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    tool.chmod(0o755)
    agent = start_agent(shutdown="poweroff", env={"PATH": f"{tool.parent}:{os.environ['PATH']}"})
    head.until_joined()
    head.run(TaskSpec(T, ["/bin/sleep", "600"]))
    head.until(lambda: T in head.reports)
    agent.process.terminate()
    assert agent.wait() == 0
    assert head.until_exited(T).stopped == "killed"
    assert not (tmp_path / "called").exists()
    wait_until(lambda: not agent.alive())


def test_beats_keep_the_node_while_nothing_else_is_said(head, start_agent) -> None:
    agent = start_agent(orphan_timeout=0.8)
    head.until_joined()
    beats = head.beats
    head.until(lambda: head.beats >= beats + 8)
    assert agent.process.poll() is None and head.connections == 1


def test_the_lease_runs_from_when_the_head_was_spoken_to_and_not_from_when_its_answer_came(head, start_agent) -> None:
    """The head counts from what it heard last: answers that were long on their way must not keep a node beyond that."""
    head.echo_delay = 1.5
    agent = start_agent(orphan_timeout=1.0)
    head.until_joined()
    head.run(TaskSpec(T, ["/bin/sleep", "600"]))
    assert agent.wait() == 4
    assert head.connections == 1 and "silent for 1 s" in agent.stderr


def test_a_head_that_is_cut_off_before_its_first_answer_counts_as_silent(head, start_agent) -> None:
    head.echoes = False
    agent = start_agent(orphan_timeout=1.0)
    head.until_joined()
    assert agent.wait() == 4


def test_a_head_that_stopped_answering_is_dialled_again(head, start_agent) -> None:
    head.lease_seconds = 0.6
    start_agent()
    head.until_joined()
    head.until(lambda: head.beats >= 2)
    head.echoes = False
    head.until_joined(times=2)


def test_stop_ends_the_work_reports_it_and_leaves_nothing(head, start_agent) -> None:
    agent = start_agent()
    head.until_joined()
    head.run(TaskSpec(T, ["/bin/sh", "-c", "echo ready; exec sleep 600"]))
    head.until(lambda: head.log(T).data == b"ready\n")
    head.send("stop", reason="scaled down")
    report = head.until_exited(T)
    assert report.stopped == "killed" and report.error == "scaled down"
    assert agent.wait() == 0
    wait_until(lambda: not agent.alive())
    assert not list((agent.directory / "work").iterdir())
