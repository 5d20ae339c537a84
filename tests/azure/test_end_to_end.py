"""Jobs on real machines of a pretended Azure: launched by demand, joined by their user data alone, gone with `down`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.azure.cluster import HEAD, AzureCluster
from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.machines import AzureMachines
from tests.support.cluster import wait_until

RAY_JOB = """\
import ray, socket
ray.init()
@ray.remote(num_cpus=2)
def where():
    return socket.gethostname()
print("ran on", sorted(set(ray.get([where.remote() for _ in range(2)]))))
"""
SPOT = "  - {name: cpu, instances: [Standard_D2s_v5, Standard_D2as_v5], market: [spot, on-demand], max: 4, idle_timeout: 3s}"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., AzureCluster]]:
    clusters: list[AzureCluster] = []
    with AzureCloud() as cloud, cloud.credentials(), AzureMachines(cloud) as machines:
        cloud.world.boot_seconds = 0.3

        def make(pools: str, more: str = "engine: none") -> AzureCluster:
            clusters.append(AzureCluster(tmp_path, cloud, machines, pools, more))
            clusters[-1].up()
            return clusters[-1]

        yield make
        for cluster in clusters:
            cluster.clean_up()
        assert cloud.world.violations == []


def test_jobs_bring_machines_up_a_preempted_one_is_replaced_and_down_leaves_nothing(
    start: Callable[..., AzureCluster],
) -> None:
    cluster = start(SPOT)
    script = "[ $CLUSTERCTL_ATTEMPT != 1 ] || sleep 300; hostname"  # the first attempt waits for what is to come
    job = cluster.submit("--cpus", "1", "--max-retries", "2", "--", "sh", "-c", script)
    cluster.wait_job(job, "running")
    (node,) = cluster.ready_nodes()
    cluster.cloud.world.preempt_seconds = 12.0
    cluster.cloud.evict(node["instance_id"])
    cluster.wait_job(job, "succeeded")
    attempts = cluster.job(job)["attempts"]
    assert [attempt["state"] for attempt in attempts] == ["lost", "succeeded"]
    assert attempts[1]["nodes"] != [node["id"]]
    codes = [event["code"] for event in cluster.json("events", "--subject", node["id"])["events"]]
    assert "preempt_notice" in codes, "its own agent heard of it from the metadata server"
    assert {m.market for m in cluster.vms() if m.size.name != HEAD} <= {"spot"}
    wait_until(lambda: not cluster.ready_nodes(), what="idle nodes removed")
    cluster.down()
    assert cluster.cloud.leftovers() == [] and cluster.machines.machines.ids() == []


def test_ray_runs_on_machines_that_its_own_demand_brought(start: Callable[..., AzureCluster], tmp_path: Path) -> None:
    """Their image has a Ray: what is done where it has none is the same in every cloud, and tried in tests/aws."""
    cluster = start(SPOT.replace("3s", "60s"), f"engine: {{ray: {{python: {sys.executable}}}}}")
    (tmp_path / "job.py").write_text(RAY_JOB)
    done = cluster.cli("submit", "job.py")
    assert "ran on ['" in done.stdout, done.stdout + done.stderr
    cluster.down()
    assert cluster.cloud.leftovers() == []


def test_an_idle_machine_is_stopped_and_started_again_with_its_disk_and_setup(
    start: Callable[..., AzureCluster],
) -> None:
    """It is deallocated, and costs its disk alone."""
    pools = "  - {name: cpu, instances: [Standard_D2s_v5], max: 2, idle_timeout: 2s, keep_stopped: 1}"
    cluster = start(pools, 'engine: none\nsetup: ["echo once >>/var/tmp/setups"]')
    first = cluster.submit("--cpus", "1", "--", "sh", "-c", "echo data >/var/tmp/cache; hostname")
    cluster.wait_job(first, "succeeded")
    (node_id,) = cluster.job(first)["attempts"][0]["nodes"]
    wait_until(lambda: _state_of(cluster, node_id) == "stopped", what="the idle machine is stopped")
    second = cluster.submit("--cpus", "1", "--", "cat", "/var/tmp/cache", "/var/tmp/setups")
    cluster.wait_job(second, "succeeded")
    (attempt,) = cluster.job(second)["attempts"]
    assert attempt["nodes"] == [node_id]
    assert cluster.cli("logs", second).stdout.split() == ["data", "once"], "its disk was kept, its setup not repeated"
    cluster.down()
    assert cluster.cloud.leftovers() == [] and cluster.machines.machines.ids() == []


def _state_of(cluster: AzureCluster, node_id: str) -> str:
    return next((n["state"] for n in cluster.status()["nodes"] if n["id"] == node_id), "")


def test_a_machine_whose_head_is_gone_turns_itself_off(start: Callable[..., AzureCluster]) -> None:
    cluster = start(SPOT.replace("idle_timeout: 3s", "idle_timeout: 60s, orphan_timeout: 6s, min: 1"))
    (node,) = wait_until(cluster.ready_nodes, what="the node")
    for process in cluster.processes():
        if "head" in " ".join(process.cmdline()):
            process.kill()
    gone = lambda: node["instance_id"] not in {m.name for m in cluster.cloud.machines("running", "starting")}  # noqa: E731
    wait_until(gone, what="the machine off")
