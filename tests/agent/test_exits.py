"""How the end of a child is noticed, on every kind of system."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest
from clusterctl_runtime.agent.tasks.exits import PidfdExits, SignalExits
from clusterctl_runtime.wire import TaskSpec

from tests.support.cluster import wait_until


@pytest.mark.parametrize("kind", [PidfdExits, SignalExits])
def test_every_end_is_told_once_with_its_code(kind) -> None:
    async def scenario() -> dict[int, int]:
        loop = asyncio.get_running_loop()
        exits, codes, done = kind(loop), {}, asyncio.Event()
        scripts = [f"exit {n}" for n in range(20)] + ["kill -9 $$"]
        children = [subprocess.Popen(["/bin/sh", "-c", script]) for script in scripts]

        def ended(n: int, pid: int) -> None:
            assert n not in codes
            codes[n], peak = exits.reap(pid)
            assert 100_000 < peak < 1_000_000_000, "bytes of a shell"
            if len(codes) == len(children):
                done.set()

        for n, child in enumerate(children):
            child.returncode = 0  # not Popen's to wait for
            exits.watch(child.pid, lambda n=n, pid=child.pid: ended(n, pid))
        await asyncio.wait_for(done.wait(), 60)
        return codes

    assert asyncio.run(scenario()) == {**{n: n for n in range(20)}, 20: 128 + 9}


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
