"""A head in a pod: from `up` to `down`, through a real API server with its rights in force."""

from __future__ import annotations

import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from clusterctl.client.nodes.access import access
from clusterctl.client.registry import Registry
from clusterctl.core.errors import ClusterctlError
from tests.kubernetes.head.cluster import PodCluster
from tests.support.cluster import wait_until

WAITS = "while [ ! -e $HOME/{name} ]; do sleep 0.1; done; echo done"


@pytest.fixture(autouse=True)
def as_its_user(cluster: PodCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", cluster.env["KUBECONFIG"])


def begin(cluster: PodCluster, name: str) -> tuple[str, str]:
    """A job that waits for a file of that name in its pod: (its id, its node)."""
    job = cluster.submit("--name", name, "--", "sh", "-c", WAITS.format(name=name))
    return job, str(cluster.wait_job(job, "running")["attempts"][-1]["nodes"][0])


def test_jobs_run_on_pods_as_no_root(cluster: PodCluster) -> None:
    job = cluster.submit("--", "sh", "-c", "id -u; hostname")
    cluster.wait_job(job, "succeeded")
    said = cluster.cli("logs", job).stdout
    assert "1000" in said and "work-1" in said
    cluster.cli("up", "cluster.yaml", "--yes")
    assert sorted(cluster.nodes()) == ["head-1", "work-1"]


def test_jobs_see_no_token_of_the_head(cluster: PodCluster) -> None:
    look = ["sh", "-c", "ls /run/secrets/kubernetes.io/serviceaccount; echo nothing else"]
    for node in cluster.nodes():
        said = cluster.cli("exec", node, "--", *look).stdout
        assert "nothing else" in said and "token" not in said, said


@pytest.mark.parametrize("pool", ["head", "work"])
def test_a_pod_is_got_into_without_ssh(cluster: PodCluster, tmp_path: Path, pool: str) -> None:
    node = next(name for name, one in cluster.nodes().items() if one["pool"] == pool)
    done = cluster.cli("exec", node, "--", "sh", "-c", "echo $CLUSTERCTL_NODE; exit 3", code=None)
    assert (done.returncode, node in done.stdout) == (3, True)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "data").write_bytes(bytes(2_000_000))
    place = cluster.cli("exec", node, "--", "mktemp", "-d").stdout.splitlines()[-1].split()[-1]
    cluster.cli("cp", str(tmp_path / "tree"), f"{node}:{place}/copy")
    cluster.cli("cp", f"{node}:{place}/copy", str(tmp_path / "back"))
    assert (tmp_path / "back" / "data").stat().st_size == 2_000_000

    way_in = access(Registry(cluster.home).load(cluster.name), cluster.nodes()[node])
    shell = subprocess.run(
        way_in.shell_argv(), input=b"echo $CLUSTERCTL_NODE; exit 5\n", capture_output=True, timeout=60
    )
    assert (shell.returncode, shell.stdout.strip()) == (5, node.encode())
    server = "import socket; s = socket.create_server(('127.0.0.1', 9321)); c = s.accept()[0]; c.sendall(b'hello')"
    cluster.cli("exec", node, "--", "sh", "-c", f'python3 -c "{server}" >/dev/null 2>&1 &')

    def hear() -> bytes:
        try:
            with closing(way_in.dial(9321)) as way:
                return way.recv(100)
        except ClusterctlError:
            return b""

    assert wait_until(hear, what="the port answers") == b"hello"


def test_a_head_whose_pod_is_deleted_comes_back_and_its_jobs_go_on(cluster: PodCluster) -> None:
    job, node = begin(cluster, "outlives")
    head = next(pod for pod in cluster.pods() if pod["metadata"]["name"].endswith("-head-0"))
    cluster.end_looks()
    name, uid = head["metadata"]["name"], head["metadata"]["uid"]
    cluster.boxes.plane.api.delete(
        f"/api/v1/namespaces/{cluster.boxes.namespace}/pods/{name}", {"gracePeriodSeconds": 5}
    )
    wait_until(
        lambda: any(p["metadata"]["name"] == name and p["metadata"]["uid"] != uid for p in cluster.pods()),
        what="its StatefulSet makes another pod",
    )
    wait_until(lambda: cluster.cli("status", code=None).returncode == 0, what="the head answers again")
    cluster.cli("exec", node, "--", "sh", "-c", "touch $HOME/outlives")
    done = cluster.wait_job(job, "succeeded")
    assert [one["nodes"] for one in done["attempts"]] == [[node]]
    wait_until(lambda: {n["state"] for n in cluster.nodes().values()} == {"ready"}, what="all nodes are ready again")
    assert set(cluster.nodes()) == {"head-1", node}


def test_a_pod_that_is_evicted_is_replaced(cluster: PodCluster) -> None:
    before = {name for name, one in cluster.nodes().items() if one["pool"] == "work"}
    pod = next(one["instance_id"] for name, one in cluster.nodes().items() if name in before)
    path = f"/api/v1/namespaces/{cluster.boxes.namespace}/pods/{pod}/eviction"
    eviction = {"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": {"name": pod}}
    cluster.boxes.plane.api.create(path, eviction)
    wait_until(
        lambda: any(n["id"] not in before for n in cluster.ready_nodes("work")) and pod not in str(cluster.pods()),
        what="another pod takes its place",
    )


def test_nothing_is_left_after_down(cluster: PodCluster) -> None:
    assert len(cluster.objects()) > 9
    cluster.end_looks()
    cluster.down()
    wait_until(lambda: not cluster.objects(), what="Kubernetes has collected all that was owned")
    assert cluster.processes() == []
