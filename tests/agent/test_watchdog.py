"""No task outlives its agent, and what the agent cannot know after its death it says."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from clusterctl_runtime.agent.tasks.processes import list_marked
from clusterctl_runtime.wire import TaskSpec

from tests.support.cluster import wait_until

T = "j-1/1/0"
FAMILY = """
trap '' TERM HUP
sleep 601 & echo $!
setsid sleep 602 & echo $!
env -i sleep 603 & echo $!
setsid sh -c 'sleep 604 & echo $!' > daemon.pid
cat daemon.pid; echo $$
sleep 605
"""


def start_family(head, task: str = T) -> list[int]:
    """A program with children in its group, out of it, without environment, and orphaned; returns their pids."""
    head.run(TaskSpec(task, ["/bin/sh", "-c", FAMILY]))
    head.until(lambda: len(head.log(task).data.split()) == 5)
    return [int(pid) for pid in head.log(task).data.split()]


def living(pids: list[int]) -> list[int]:
    found = []
    for pid in pids:
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            continue
        if stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X"):
            found.append(pid)
    return found


def test_kill_9_of_the_agent_leaves_no_process_alive(head, start_agent) -> None:
    agent = start_agent()
    head.until_joined()
    pids = start_family(head)
    assert living(pids) == pids
    agent.kill()
    wait_until(lambda: not living(pids))
    wait_until(lambda: not agent.alive())


def test_kill_9_in_the_middle_of_starting_many_leaves_no_process_alive(head, start_agent) -> None:
    agent = start_agent()
    head.until_joined()
    head.run(*[TaskSpec(f"j-{n}/1/0", ["/bin/sleep", "600"]) for n in range(300)])
    wait_until(lambda: len(agent.alive()) > 40)
    agent.kill()
    wait_until(lambda: not agent.alive())


def test_a_watchdog_that_was_killed_is_replaced(head, start_agent) -> None:
    agent = start_agent()
    head.until_joined()
    pids = start_family(head)
    tasks = set(agent.alive())
    (watchdog,) = children(agent.process.pid) - set(pids)
    os.kill(watchdog, signal.SIGKILL)
    wait_until(lambda: (new := children(agent.process.pid) - set(pids)) and watchdog not in new)
    agent.kill()
    wait_until(lambda: not living(list(tasks)) and not agent.alive())


def children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def test_after_kill_9_a_new_agent_reports_the_task_lost_and_it_is_dead_by_then(head, start_agent) -> None:
    agent = start_agent()
    head.until_joined()
    pids = start_family(head)
    agent.kill()
    start_agent()
    hello = head.until_joined(times=2)
    (report,) = hello["tasks"]
    assert report["task"] == T and report["state"] == "exited" and report["lost"] and report["exit_code"] is None
    assert "agent of this node died" in report["error"]
    assert not living(pids)
    head.run(TaskSpec(T, ["/bin/echo", "again"]))  # a repetition of what is lost is not a new task
    head.until(lambda: len(head.reports[T]) >= 3)
    assert b"again" not in head.log(T).data


def test_an_end_that_was_not_acknowledged_is_reported_by_the_next_agent(head, start_agent) -> None:
    head.acks_exits = False
    agent = start_agent()
    head.until_joined()
    head.run(TaskSpec(T, ["/bin/sh", "-c", "exit 9"]), TaskSpec("j-2/1/0", ["/bin/true"]))
    head.until_exited(T)
    head.until_exited("j-2/1/0")
    head.ack("j-2/1/0")
    head.send("kill", tasks=["j-0/0/0"], grace_seconds=0, reason="")  # answered in order: the ack has been seen
    head.until_exited("j-0/0/0")
    agent.kill()
    start_agent()
    (report,) = head.until_joined(times=2)["tasks"]
    assert (report["task"], report["exit_code"], report["lost"]) == (T, 9, False)


def test_an_end_while_the_head_is_away_survives_the_agents_death(head, start_agent, tmp_path) -> None:
    agent = start_agent()
    head.until_joined()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    head.run(TaskSpec(T, ["/bin/sh", "-c", f"read x < {fifo}; exit 9"]))
    head.until(lambda: T in head.reports)
    head.stop()
    fifo.write_text("go\n")
    wait_until(lambda: '"end"' in (agent.directory / "tasks.jsonl").read_text())
    agent.kill()
    head.start()
    start_agent()
    (report,) = head.until_joined(times=2)["tasks"]
    assert (report["task"], report["exit_code"], report["lost"]) == (T, 9, False)


def test_when_the_agent_ends_in_order_daemons_of_its_tasks_end_too(head, start_agent) -> None:
    agent = start_agent()
    head.until_joined()
    head.run(
        TaskSpec(T, ["/bin/sh", "-c", "setsid -f sh -c 'echo $$; exec sleep 600 > /dev/null 2>&1'; exec sleep 600"])
    )
    (pid,) = head.until(lambda: [int(p) for p in head.log(T).data.split()])
    assert living([pid])
    head.send("stop", reason="scaled down")
    assert agent.wait() == 0
    assert not living([pid])


def test_a_node_inside_a_task_of_another_node_answers_to_both(head, start_agent) -> None:
    start_agent(env={"CLUSTERCTL_LEASH": "outer-mark"})
    head.until_joined()
    head.run(TaskSpec(T, ["/bin/sh", "-c", "echo $$; exec sleep 600"]))
    pid = int(head.until(lambda: head.log(T).data))
    assert pid in list_marked("outer-mark")


def test_a_program_that_overwrote_its_environment_is_found_by_its_family(head, start_agent) -> None:
    """As Ray's workers do when they set their title; and it is in a group of its own."""
    agent = start_agent()
    head.until_joined()
    head.run(TaskSpec(T, [sys.executable, "-c", HIDDEN]))
    head.until(lambda: len(head.log(T).data.split()) == 2)
    pids = [int(pid) for pid in head.log(T).data.split()]
    wait_until(lambda: b"CLUSTERCTL" not in Path(f"/proc/{pids[1]}/environ").read_bytes())
    agent.kill()
    wait_until(lambda: not living(pids))


HIDDEN = """
import os, subprocess, sys, time
daemon = "import os, time; os.setpgid(0, 0); time.sleep(600)"
os.setsid() if os.fork() == 0 else time.sleep(600)
print(os.getpid(), flush=True)
child = subprocess.Popen([sys.executable, "-c", daemon], env={}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(child.pid, flush=True)
os.close(1); os.close(2)
time.sleep(600)
"""
