"""A cluster of containers from `up` to `down`, and what its containers can do to the machine that they run on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.docker.conftest import DockerCluster
from tests.support.cluster import wait_until
from tests.support.docker_engine import DockerEngine

SPEC = """\
cluster: demo
provider: {docker: {image: "IMAGE", ports: ["0:8000"]}}
engine: none
head: {resources: {CPU: 1, memory: 512MiB}}
pools:
  - {name: cpu, min: 0, max: 2, resources: {CPU: 1, memory: 256MiB}, idle_timeout: 2s}
  - {name: user, min: 0, max: 1, resources: {CPU: 1, memory: 256MiB}, idle_timeout: 2s, image: "PLAIN"}
"""
WHO = "import os, socket, sys; print(socket.gethostname(), os.getuid(), os.path.exists('/var/run/docker.sock'))\n"


@pytest.fixture(scope="module")
def plain_image(docker_engine: DockerEngine, image: str) -> str:
    """The same, run by a user without rights."""
    return built(docker_engine, f"FROM {image}\nUSER tester\n", "plain")


def built(engine: DockerEngine, dockerfile: str, name: str) -> str:
    import io

    tag = f"clusterctl-test/{name}:1"
    engine.client.images.build(fileobj=io.BytesIO(dockerfile.encode()), tag=tag, rm=True)
    return tag


@pytest.fixture(scope="module")
def cluster(make_cluster: Callable[..., DockerCluster], image: str, plain_image: str) -> DockerCluster:
    return make_cluster(SPEC.replace("IMAGE", image).replace("PLAIN", plain_image))


def script(cluster: DockerCluster, text: str) -> str:
    path = cluster.directory / "job.py"
    path.write_text(text)
    return str(path)


def output(cluster: DockerCluster, job_id: str) -> str:
    return cluster.cli("logs", job_id).stdout


def test_the_pool_grows_with_the_queue_and_shrinks_when_it_is_empty(cluster: DockerCluster) -> None:
    meet = "import os, time; print(os.uname().nodename); time.sleep(1.5)\n"
    jobs = [cluster.submit("--cpus", "1", "--pool", "cpu", script(cluster, meet)) for _ in range(2)]
    for job in jobs:
        cluster.wait_job(job, "succeeded")
    assert {output(cluster, job).strip() for job in jobs} == {"cpu-1", "cpu-2"}
    wait_until(lambda: [c.labels["clusterctl-node"] for c in cluster.containers()] == ["head-1"], what="workers gone")


def test_a_node_runs_as_the_user_of_its_image_and_keeps_its_papers_to_itself(cluster: DockerCluster) -> None:
    job = cluster.submit(
        "--pool", "user", script(cluster, "import os; print(os.getuid(), os.listdir('/clusterctl'))\n")
    )
    cluster.wait_job(job, "succeeded")
    assert output(cluster, job).startswith("1001 ")
    look = (
        "import os; print([oct(os.stat(p).st_mode & 0o777) for p in ('/clusterctl', '/clusterctl/bootstrap.json')])\n"
    )
    job = cluster.submit("--pool", "user", script(cluster, look))
    cluster.wait_job(job, "succeeded")
    assert output(cluster, job).strip() == "['0o700', '0o600']"


def test_containers_have_no_privilege_no_socket_no_open_port_and_limits(cluster: DockerCluster) -> None:
    job = cluster.submit("--pool", "cpu", script(cluster, WHO + "import time; time.sleep(2)\n"))
    wait_until(lambda: len(cluster.containers()) == 2, what="a worker")
    network = f"clusterctl-demo-{cluster.uid[:8]}"
    for container in cluster.containers():
        wait_until(lambda c=container: c.reload() or c.status == "running", what="it runs")
        host: dict[str, Any] = container.attrs["HostConfig"]
        assert not host["Privileged"] and not host["CapAdd"] and not host["PidMode"] and host["IpcMode"] != "host"
        assert {"MKNOD", "NET_RAW", "SYS_CHROOT"} <= set(host["CapDrop"])
        assert container.attrs["Mounts"] == [] and not host["Binds"]
        assert host["PidsLimit"] > 0 and host["Memory"] in (256 * 2**20, 512 * 2**20) and host["NanoCpus"] == 10**9
        assert list(container.attrs["NetworkSettings"]["Networks"]) == [network]
        published = [b for ports in (container.ports or {}).values() for b in ports or ()]
        assert {binding["HostIp"] for binding in published} <= {"127.0.0.1"}
        assert bool(published) == (container.labels["clusterctl-node"] == "head-1")
    cluster.wait_job(job, "succeeded")
    assert output(cluster, job).split()[2] == "False"


def test_the_head_listens_on_loopback_and_on_the_clusters_own_network_only(cluster: DockerCluster) -> None:
    network = cluster.engine.client.networks.get(f"clusterctl-demo-{cluster.uid[:8]}")
    gateway = network.attrs["IPAM"]["Config"][0]["Gateway"]
    connections = psutil.Process(cluster.head_pid()).net_connections("tcp")
    assert {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN} == {"127.0.0.1", gateway}


def test_a_job_whose_container_is_killed_runs_again_on_another(cluster: DockerCluster) -> None:
    text = (
        "import os, time\n"
        "print('on', os.uname().nodename, flush=True)\n"
        "time.sleep(0 if os.environ['CLUSTERCTL_ATTEMPT'].endswith('2') else 600)\n"
    )
    job = cluster.submit("--pool", "cpu", "--max-retries", "2", script(cluster, text))
    wait_until(lambda: cluster.job(job)["state"] == "running", what="it runs")
    (first,) = cluster.job(job)["attempts"][0]["nodes"]
    (container,) = cluster.containers(first)
    container.kill()
    attempts = cluster.wait_job(job, "succeeded")["attempts"]
    assert len(attempts) == 2 and attempts[1]["nodes"] != [first]
    wait_until(lambda: not cluster.containers(first), what="nothing left of the killed container")


def test_down_leaves_no_container_and_no_network(
    make_cluster: Callable[..., DockerCluster], image: str, tmp_path: Path
) -> None:
    cluster = make_cluster(
        SPEC.replace("min: 0, max: 2", "min: 1, max: 2").replace("IMAGE", image).replace("PLAIN", image)
    )
    uid, client = cluster.uid, cluster.engine.client
    assert len(cluster.containers()) == 2
    cluster.down()
    wanted: dict[str, Any] = {"label": f"clusterctl-uid={uid}"}
    assert client.containers.list(all=True, filters=wanted) == [] and client.networks.list(filters=wanted) == []
    assert json.loads(cluster.cli("list", "--json").stdout) in ([], {"clusters": []})
