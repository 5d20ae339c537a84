"""The agent's side of the engine: started, relayed, attached to, ended. Ray itself, not a double."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusterctl_runtime.wire import TaskSpec

from tests.support.cluster import wait_until

T = "j-1/1/0"


def config(**changes: Any) -> dict[str, Any]:
    standard = {
        "role": "head",
        "python": sys.executable,
        "token": "0123456789abcdef0123456789abcdef",
        "resources": {"CPU": 1, "memory": 200_000_000},
        "object_store_memory": 80_000_000,
        "instance_id": "head-1@1",
        "single_host": True,
    }
    return {**standard, **changes}


@pytest.fixture
def short() -> Iterator[str]:
    """Ray's sockets bear no long path."""
    directory = tempfile.mkdtemp(prefix="cctl-", dir="/tmp")
    yield directory
    shutil.rmtree(directory)


def engine_states(head) -> list[dict[str, Any]]:
    return [message for message in head.said if message["t"] == "engine"]


def test_an_engine_that_cannot_start_says_why_and_the_node_goes_on(head, start_agent) -> None:
    start_agent()
    head.until_joined()
    head.send("engine_start", config=config(python="/nowhere/python"))
    failed = head.until(lambda: [m for m in engine_states(head) if m["state"] == "failed"])[-1]
    assert "/nowhere/python" in failed["detail"]
    head.run(TaskSpec(T, ["/bin/true"]), TaskSpec("j-2/1/0", ["/bin/true"], engine=True))
    assert head.until_exited(T).exit_code == 0
    without = head.until_exited("j-2/1/0")
    assert without.lost and without.exit_code is None and "engine of this node is failed" in without.error


def test_ray_is_started_attached_to_and_gone_when_the_agent_is_killed(head, start_agent, short) -> None:
    agent = start_agent(directory=short + "/n")
    head.until_joined()
    head.send("engine_start", config=config())
    head.send("engine_start", config=config())  # the head says it again after a reconnect
    ready = head.until(lambda: [m for m in engine_states(head) if m["state"] == "ready"], 60)[-1]
    assert ready["ray_node_id"] and ready["address"]
    assert [m["state"] for m in engine_states(head)].count("ready") == 1
    script = 'echo "$RAY_ADDRESS"; test -f "$RAY_AUTH_TOKEN_PATH" && echo token'
    head.run(TaskSpec(T, ["/bin/sh", "-c", script], engine=True))
    head.until_exited(T)
    assert head.log(T).data.decode().split() == [ready["address"], "token"]
    assert Path(short, "n/engine/ray").is_dir(), "Ray's scratch is in the node's directory"
    head.stop()
    head.start()
    assert head.until_joined(times=2)["engine"]["state"] == "ready"
    assert len(agent.alive()) > 3
    agent.kill()
    wait_until(lambda: not agent.alive())


def test_ray_is_stopped_when_the_head_says_so(head, start_agent, short) -> None:
    agent = start_agent(directory=short + "/n")
    head.until_joined()
    head.send("engine_start", config=config())
    head.until(lambda: [m for m in engine_states(head) if m["state"] == "ready"], 60)
    head.send("engine_stop")
    head.until(lambda: engine_states(head)[-1]["state"] == "stopped", 60)
    wait_until(lambda: len(agent.alive()) == 2)  # the agent and its watchdog
    assert not Path(short, "n/engine/ray").exists()
    head.send("stop", reason="done")
    assert agent.wait(60) == 0
