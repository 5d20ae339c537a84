"""Jobs on real machines of a pretended AWS: launched by demand, joined by user data alone, gone with `down`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.aws.cluster import AwsCluster
from tests.cloud.aws.cloud import AwsCloud, credentials
from tests.cloud.aws.machines import AwsMachines
from tests.cloud.machines import CIDR, NAMES
from tests.support.cluster import wait_until
from tests.support.wheel_index import kept_wheels, serving, wanted

RAY_JOB = """\
import ray, socket
ray.init()
@ray.remote(num_cpus=2)
def where():
    return socket.gethostname()
print("ran on", sorted(set(ray.get([where.remote() for _ in range(2)]))))
"""
SPOT = "  - {name: cpu, instances: [t3.micro, t3.small], market: [spot, on-demand], max: 4, idle_timeout: 3s}"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], AwsCluster]]:
    clusters: list[AwsCluster] = []
    with credentials(), AwsCloud(CIDR) as cloud, AwsMachines(cloud) as machines:
        cloud.world.boot_seconds = 0.3

        def make(pools: str, more: str = "engine: none") -> AwsCluster:
            clusters.append(AwsCluster(tmp_path, cloud, machines, pools, more))
            clusters[-1].up()
            return clusters[-1]

        yield make
        for cluster in clusters:
            cluster.clean_up()
        assert cloud.world.violations == []


def test_jobs_bring_machines_up_and_down_leaves_nothing(start: Callable[[str], AwsCluster]) -> None:
    cluster = start(SPOT)
    jobs = [cluster.submit("--cpus", "2", "--", "hostname") for _ in range(3)]
    for job in jobs:
        cluster.wait_job(job, "succeeded")
    hosts = {cluster.cli("logs", job).stdout.strip() for job in jobs}
    assert hosts and all(host.startswith(NAMES) for host in hosts)
    ever = cluster.cloud.instances("running", "shutting-down", "terminated")
    assert {i.lifecycle for i in ever if i.instance_type != "t3.large"} == {"spot"}
    wait_until(lambda: not cluster.ready_nodes(), what="idle nodes removed")
    cluster.down()
    assert cluster.cloud.leftovers() == [] and cluster.machines.machines.ids() == []


def test_an_idle_machine_is_stopped_and_started_again_with_its_disk_and_setup(start: Callable[..., AwsCluster]) -> None:
    pools = "  - {name: cpu, instances: [t3.micro], max: 2, idle_timeout: 2s, keep_stopped: 1}"
    cluster = start(pools, 'engine: none\nsetup: ["echo once >>/var/tmp/setups"]')
    first = cluster.submit("--cpus", "2", "--", "sh", "-c", "echo data >/var/tmp/cache; hostname")
    cluster.wait_job(first, "succeeded")
    (node_id,) = cluster.job(first)["attempts"][0]["nodes"]
    wait_until(lambda: _state_of(cluster, node_id) == "stopped", what="the idle machine is stopped")
    status = cluster.status()
    (pool,) = status["pools"]
    assert (pool["stopped"], pool["ready"], pool["price_per_hour"]) == (1, 0, 0)
    assert status["cost"]["per_hour"] == sum(n["price_per_hour"] for n in status["nodes"] if n["pool"] == "head")
    assert len(cluster.cloud.instances("stopped")) == 1
    second = cluster.submit("--cpus", "2", "--", "cat", "/var/tmp/cache", "/var/tmp/setups")
    cluster.wait_job(second, "succeeded")
    (attempt,) = cluster.job(second)["attempts"]
    assert attempt["nodes"] == [node_id]
    assert cluster.cli("logs", second).stdout.split() == ["data", "once"], "its disk was kept, its setup not repeated"
    events = [step["event"] for step in cluster.json("explain", node_id)["story"]]
    assert [e for e in events if e in ("intend", "stop", "stopped", "start", "ready")][:6] == [
        "intend", "ready", "stop", "stopped", "start", "ready",
    ]  # fmt: skip
    wait_until(lambda: _state_of(cluster, node_id) == "stopped", what="it is stopped again")
    cluster.down()
    assert cluster.cloud.leftovers() == [] and cluster.machines.machines.ids() == []


def _state_of(cluster: AwsCluster, node_id: str) -> str:
    return next((n["state"] for n in cluster.status()["nodes"] if n["id"] == node_id), "")


def test_a_spot_notice_moves_the_job_to_a_new_machine(start: Callable[[str], AwsCluster]) -> None:
    cluster = start(SPOT)
    script = "[ $CLUSTERCTL_ATTEMPT != 1 ] || sleep 300; hostname"  # the first attempt waits for what is to come
    job = cluster.submit("--cpus", "1", "--max-retries", "2", "--", "sh", "-c", script)
    cluster.wait_job(job, "running")
    (node,) = cluster.ready_nodes()
    cluster.machines.warn(node["instance_id"], seconds=12)
    wait_until(
        lambda: len([i for i in cluster.cloud.instances() if i.lifecycle == "spot"]) == 2, what="its replacement"
    )
    cluster.cloud.interrupt(node["instance_id"])
    cluster.wait_job(job, "succeeded")
    attempts = cluster.job(job)["attempts"]
    assert attempts[-1]["state"] == "succeeded" and len(attempts) == 2
    cluster.down()
    assert cluster.cloud.leftovers() == []


def test_ray_runs_on_machines_that_its_own_demand_brought_and_whose_image_has_none(
    start: Callable[[str, str], AwsCluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(*kept_wheels(wanted())) as index:
        monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
        cluster = start(SPOT.replace("3s", "60s"), 'engine: {ray: {version: "2.60.0"}}')
        (tmp_path / "job.py").write_text(RAY_JOB)
        done = cluster.cli("submit", "job.py")
        assert f"ran on ['{NAMES}" in done.stdout, done.stdout + done.stderr
        assert len(index.downloads) == len(set(index.downloads)), "the head asks once for all"
        cluster.down()
    assert cluster.cloud.leftovers() == []


def test_a_machine_whose_head_is_gone_turns_itself_off(start: Callable[[str], AwsCluster]) -> None:
    cluster = start(SPOT.replace("idle_timeout: 3s", "idle_timeout: 60s, orphan_timeout: 6s, min: 1"))
    (node,) = wait_until(cluster.ready_nodes, what="the node")
    for process in cluster.processes():
        if "head" in " ".join(process.cmdline()):
            process.kill()
    gone = lambda: node["instance_id"] not in {i.id for i in cluster.cloud.instances("pending", "running")}  # noqa: E731
    wait_until(gone, what="the instance gone")
