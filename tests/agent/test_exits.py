"""How the end of a child is noticed, on every kind of system."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from clusterctl_runtime.agent.tasks.exits import Exits, PidfdExits, SignalExits
from clusterctl_runtime.wire import TaskSpec

from tests.support.cluster import wait_until

KINDS = pytest.mark.parametrize("kind", [PidfdExits, SignalExits])


def ends(kind: type[Exits], commands: list[list[str]]) -> list[list[tuple[int, int]]]:
    """All that is told of each command's end: its code, and the bytes of its largest process."""

    async def scenario() -> list[list[tuple[int, int]]]:
        exits, done = kind(asyncio.get_running_loop()), asyncio.Event()
        told: list[list[tuple[int, int]]] = [[] for _ in commands]
        children = [subprocess.Popen(command) for command in commands]

        def ended(n: int) -> None:
            told[n].append(exits.reap(children[n].pid))
            if all(told):
                done.set()

        for n, child in enumerate(children):
            child.returncode = 0  # not Popen's to wait for
            exits.watch(child.pid, lambda n=n: ended(n))
        await asyncio.wait_for(done.wait(), 60)
        return told

    return asyncio.run(scenario())


@KINDS
def test_every_end_is_told_once_with_its_code(kind: type[Exits]) -> None:
    scripts = [f"exit {n}" for n in range(20)] + ["kill -9 $$"]
    told = ends(kind, [["/bin/sh", "-c", script] for script in scripts])
    assert [[code for code, _ in each] for each in told] == [*([n] for n in range(20)), [128 + 9]]


@KINDS
def test_the_memory_of_the_largest_process_is_told_where_it_is_not_the_agents_own(kind: type[Exits]) -> None:
    """The child of a process that once had a gigabyte is counted with that gigabyte, as long as it has no more itself."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    size = own + 50_000_000
    ((_, large),), ((_, small),) = ends(
        kind, [[sys.executable, "-S", "-c", f"b'x' * {size}"], ["/bin/sh", "-c", "exit 0"]]
    )
    assert size < large < 1.2 * size + 50_000_000
    assert small == 0


def test_as_the_first_process_of_a_container_the_agent_leaves_no_zombies(head, start_agent) -> None:
    agent = start_agent(under=["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"])
    head.until_joined()
    wait = "n=0; while ps -e -o stat= | grep Z && [ $n -lt 600 ]; do n=$((n + 1)); sleep 0.05; done >/dev/null"
    head.run(
        TaskSpec(
            "j-1/1/0", ["/bin/sh", "-c", f"setsid -f sleep 0.05; setsid -f true; sleep 0.1; {wait}; ps -e -o stat="]
        )
    )
    report = head.until_exited("j-1/1/0")
    assert report.exit_code == 0 and b"Z" not in head.log("j-1/1/0").data
    (first,) = [pid for pid in agent.alive() if namespace_pid(pid) == 1]
    os.kill(first, 15)
    assert agent.wait() == 0
    wait_until(lambda: not agent.alive())


def namespace_pid(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1]) if len(line.split()) > 2 else 0
    return 0
