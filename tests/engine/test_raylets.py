"""Raylets start in private directories beside each other, their end is noticed, and nothing of them stays."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from clusterctl_runtime.engine.launch import EngineConfig, EngineFailed, Raylet
from clusterctl_runtime.engine.processes import MARK, marked

from tests.support.cluster import wait_until


def pids_of(raylet: Raylet) -> list[int]:
    return marked(raylet._mark, raylet._process.pid if raylet._process else 0)


def pid_of(raylet: Raylet, program: str) -> int:
    """Of the process whose executable or script has that name."""
    for pid in pids_of(raylet):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        if any(Path(word).name == program for word in words[:4]):
            return pid
    raise AssertionError(f"no {program} among the raylet's processes")


def listening_ports(pids: list[int]) -> set[int]:
    """TCP ports that these processes listen on, from the kernel's tables."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                inodes.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
            except OSError:
                continue
    ports = set()
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = row.split()
            if words[3] == "0A" and words[9] in inodes:
                ports.add(int(words[1].rpartition(":")[2], 16))
    return ports


def nothing_left(raylet: Raylet, ports: set[int]) -> None:
    assert pids_of(raylet) == []
    assert not raylet._scratch.exists() and not raylet._command.spill.exists()
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("", port))


def test_a_request_without_the_token_is_refused(cluster):
    """The public exploit for open Ray dashboards: a job that runs a command."""
    job = {"entrypoint": "touch /tmp/owned", "runtime_env": {}}
    url = cluster.dashboard()
    assert httpx.post(f"{url}/api/jobs/", json=job).status_code == 401
    for path in ("/api/jobs/", "/api/cluster_status", "/nodes?view=summary", "/api/v0/tasks"):
        assert httpx.get(url + path).status_code == 401, path
    wrong = {"Authorization": "Bearer " + "0" * 64}
    assert httpx.post(f"{url}/api/jobs/", json=job, headers=wrong).status_code in (401, 403)
    assert httpx.get(f"{url}/api/jobs/", headers={"Authorization": f"Bearer {cluster.token}"}).status_code == 200


def test_a_program_without_the_token_cannot_join(cluster):
    env = {**cluster.environment(), "RAY_AUTH_TOKEN": "0" * 64}
    code = "import os; from ray._raylet import GcsClient; GcsClient(address=os.environ['RAY_ADDRESS']).internal_kv_keys(b'')"
    ended = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert ended.returncode != 0
    assert "uthenticat" in ended.stderr


def test_the_token_is_in_no_argument_and_in_one_private_file(cluster):
    for raylet in cluster.raylets.values():
        path = Path(raylet.state["token_path"])
        assert path.stat().st_mode & 0o777 == 0o600
        for pid in pids_of(raylet):
            assert cluster.token not in Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
            assert cluster.token not in Path(f"/proc/{pid}/environ").read_text(errors="replace")
        assert cluster.token not in (raylet._directory / "ray.log").read_text()
        assert cluster.token not in repr(raylet._config)


def test_raylets_of_one_machine_have_directories_addresses_and_ports_of_their_own(cluster):
    raylets = [cluster.raylets[name] for name in ("head", "cpu", "gpu")]
    assert len({r._scratch for r in raylets}) == 3
    assert all(r._scratch.stat().st_mode & 0o777 == 0o700 for r in raylets)
    ports = [listening_ports(pids_of(r)) for r in raylets]
    assert all(ports) and not ports[0] & ports[1] and not ports[1] & ports[2] and not ports[0] & ports[2]
    print("seconds to start:", {k: round(v, 2) for k, v in cluster.seconds.items()})


@pytest.mark.parametrize("victim", ["raylet", "start.py"])
def test_a_killed_raylet_is_noticed_and_leaves_no_trace(cluster, victim):
    changes = []
    raylet = cluster.raylet("victim", on_change=changes.append, resources={"CPU": 1})
    cluster.loop.run(raylet.start())
    ports = listening_ports(pids_of(raylet))
    started = time.monotonic()
    os.kill(pid_of(raylet, victim), signal.SIGKILL)
    wait_until(lambda: changes[-1]["state"] == "failed")
    print(f"kill -9 of {victim}: noticed after {time.monotonic() - started:.2f} s")
    assert "signal 9" in changes[-1]["detail"]
    nothing_left(raylet, ports)
    cluster.loop.run(raylet.stop(1.0))


def test_a_drained_raylet_ends_by_itself_and_is_no_failure(cluster):
    changes = []
    raylet = cluster.raylet("leaving", on_change=changes.append, resources={"CPU": 1})
    cluster.loop.run(raylet.start())
    cluster.until(lambda s: any(n.instance_id == "leaving-1@1" and n.status == "IDLE" for n in s.nodes))
    assert cluster.loop.run(cluster.client.drain_if_idle(raylet.state["ray_node_id"], "not needed any more"))
    wait_until(lambda: changes[-1]["state"] == "stopped")
    assert changes[-1]["detail"] == "drained"
    nothing_left(raylet, set())


SAVES = """
import sys, time, ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
ray.init(log_to_driver=False)
@ray.remote(num_cpus=0, resources={"spare": 1})
class Trains:
    def deadline(self):
        from ray._private.state import state  # as Train's watcher of preemptions does
        return state.get_draining_nodes().get(ray.get_runtime_context().get_node_id())
    def node(self): return ray.get_runtime_context().get_node_id()
@ray.remote(num_cpus=1)
def more(): return ray.get_runtime_context().get_node_id()
trains = Trains.remote()
node = ray.get(trains.node.remote())
print("up", flush=True)
for line in sys.stdin:
    if line.strip() == "deadline":
        print(ray.get(trains.deadline.remote()), flush=True)
    elif line.strip() == "more":
        new = more.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=True)).remote()
        print(ray.get(new) != node, flush=True)
    else:
        del trains
        print("ended", flush=True)
"""


def test_work_reads_the_deadline_of_its_node_and_the_raylet_leaves_once_it_has_ended(cluster):
    changes = []
    raylet = cluster.raylet("busy", on_change=changes.append, resources={"CPU": 1, "spare": 1})
    cluster.loop.run(raylet.start())
    client, node, run = cluster.client, raylet.state["ray_node_id"], cluster.loop.run
    with cluster.driver(SAVES) as driver:
        assert driver.line() == "up"
        cluster.until(lambda _: cluster.node("busy").status == "RUNNING")
        assert not run(client.drain_if_idle(node, "not needed"))
        assert cluster.node("busy").status == "RUNNING"
        for left in (900, 300, 600):
            asked = time.time()
            run(client.drain(node, "the provider takes it", left))
            driver.say("deadline")
            assert abs(int(driver.line()) / 1000 - asked - left) < 5, "the last one that was said"
        cluster.until(lambda _: cluster.node("busy").status == "DRAINING")
        wait_until(
            lambda: _runs_elsewhere(driver),
            what="the driver's own raylet to know of the drain, which the GCS tells it later",
        )
        assert changes[-1]["state"] == "ready", "what runs there goes on"
        run(client.drain(node, "a user drains it", None))
        driver.say("deadline")
        assert driver.line() == "0", "Ray's word for no end"
        ports = listening_ports(pids_of(raylet))
        assert len(ports) >= 6
        driver.say("end")
        assert driver.line() == "ended"
        wait_until(lambda: changes[-1]["state"] == "stopped")
        assert changes[-1]["detail"] == "drained"
    nothing_left(raylet, ports)


def _runs_elsewhere(driver) -> bool:
    driver.say("more")
    return driver.line() == "True"


def test_a_raylet_does_not_outlive_its_agent(cluster, tmp_path):
    """An agent that is killed has no chance to stop its raylet."""
    agent = """
import asyncio, json, sys
from pathlib import Path
from clusterctl_runtime.engine.launch import EngineConfig, Raylet

async def main():
    raylet = Raylet(EngineConfig.from_json(json.loads(sys.stdin.readline())), Path(sys.argv[1]), lambda state: None)
    await raylet.start()
    print(raylet._mark, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
    config = EngineConfig(
        instance_id="lonely-1@1",
        token=cluster.token,
        single_host=True,
        gcs_address=cluster.address,
        resources={"CPU": 1},
    )
    process = subprocess.Popen(
        [sys.executable, "-c", agent, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    process.stdin.write(json.dumps(config.to_json()) + "\n")
    process.stdin.flush()
    mark = process.stdout.readline().strip()
    assert marked(mark)
    process.kill()
    process.communicate()
    wait_until(lambda: not marked(mark))
    leftover = Raylet(config, tmp_path, lambda state: None)
    cluster.loop.run(leftover.stop())  # what the next agent in that directory does with the scratch of the last
    nothing_left(leftover, set())


def test_a_taken_port_is_said_before_ray_is_started(cluster, tmp_path):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = EngineConfig(
            role="head", instance_id="head-9@1", token="0" * 64, single_host=True, gcs_address=f":{port}"
        )
        raylet = Raylet(config, tmp_path, lambda state: None)
        with pytest.raises(EngineFailed, match=rf"Ray did not start on head head-9@1: port {port} \(gcs\) is taken"):
            cluster.loop.run(raylet.start())
    assert raylet.state["state"] == "failed"
    nothing_left(raylet, set())


def test_a_raylet_that_ray_refuses_says_why_in_rays_words(cluster, tmp_path):
    config = EngineConfig(
        instance_id="cpu-9@1",
        token=cluster.token,
        single_host=True,
        gcs_address=cluster.address,
        resources={"half": 0.5},
    )
    raylet = Raylet(config, tmp_path, lambda state: None)
    with pytest.raises(EngineFailed, match=r"Ray did not start on worker cpu-9@1: (.*\n)*.*'half'"):
        cluster.loop.run(raylet.start())
    assert raylet.state["state"] == "failed"
    nothing_left(raylet, set())


def test_a_python_without_ray_is_said_at_once(cluster, tmp_path):
    config = EngineConfig(
        python="/nonexistent/python", instance_id="cpu-9@1", token="0" * 64, gcs_address="127.0.0.1:1"
    )
    raylet = Raylet(config, tmp_path, lambda state: None)
    with pytest.raises(EngineFailed, match="/nonexistent/python"):
        cluster.loop.run(raylet.start())


def test_a_directory_too_long_for_sockets_is_refused_before_ray_is_started(cluster, tmp_path):
    config = EngineConfig(instance_id="cpu-9@1", token="0" * 64, temp_dir="/tmp/" + "x" * 60)
    with pytest.raises(EngineFailed, match="too long for Ray's unix sockets"):
        cluster.loop.run(Raylet(config, tmp_path, lambda state: None).start())


def test_rays_scratch_lies_in_the_nodes_directory_when_that_is_short_enough(tmp_path):
    config = EngineConfig(instance_id="cpu-9@1")
    assert Raylet(config, Path("/tmp/cctl-0123456789/engine"), print)._scratch == Path("/tmp/cctl-0123456789/engine/r")
    elsewhere = Raylet(config, tmp_path / ("x" * 40), print)._scratch
    assert len(str(elsewhere)) < 40 and elsewhere.parent == Path("/tmp")


def test_the_mark_is_found_in_processes_that_left_their_session():
    process = subprocess.Popen(["sleep", "60"], env={**os.environ, MARK: "a-test-mark"}, start_new_session=True)
    try:
        wait_until(lambda: marked("a-test-mark") == [process.pid])
    finally:
        process.kill()
        process.wait()
    assert marked("a-test-mark") == []
