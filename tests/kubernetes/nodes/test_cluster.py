"""A whole cluster of pods by the command line: the API server, the scheduler and the agents are real, the kubelet is not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes.nodes.agents import Agents
from tests.kubernetes.nodes.world import as_user
from tests.support.cluster import LocalCluster, wait_until, with_packages
from tests.support.kubernetes.plane import ControlPlane
from tests.support.kubernetes.pods import Kubelet

SPEC = """\
cluster: demo
provider:
  kubernetes: {namespace: NAMESPACE, image: "registry.test/python:3.12", head_address: 127.0.0.1}
engine: none
head: {resources: {CPU: 1, memory: 256MiB}}
pools:
  - {name: cpu, min: 1, max: 3, resources: {CPU: 1, memory: 256MiB}, idle_timeout: 2s}
"""


class Pods:
    def __init__(self, plane: ControlPlane, directory: Path) -> None:
        self.plane, self.namespace = plane, plane.namespace()
        self.planned = ""
        self.cluster = LocalCluster(directory, SPEC.replace("NAMESPACE", self.namespace))
        with_packages(self.cluster.home)
        self.kubelet = Kubelet(plane, self.namespace, Agents(plane.api, directory))

    def names(self, node: str = "") -> list[str]:
        found = self.plane.api.get(f"/api/v1/namespaces/{self.namespace}/pods")["items"]
        return [p["metadata"]["name"] for p in found if not node or p["metadata"]["labels"]["clusterctl-node"] == node]

    def objects(self) -> list[str]:
        found: list[str] = []
        for plural in ("pods", "secrets", "configmaps"):
            listed = self.plane.api.get(
                f"/api/v1/namespaces/{self.namespace}/{plural}", labelSelector="app.kubernetes.io/managed-by=clusterctl"
            )
            found += [f"{plural}/{one['metadata']['name']}" for one in listed["items"]]
        return found


@pytest.fixture(scope="module")
def pods(nodes: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pods]:
    pods = Pods(nodes, tmp_path_factory.mktemp("pods"))
    with as_user(nodes.kubeconfig(pods.namespace)), pods.kubelet:
        pods.cluster.env["KUBECONFIG"] = str(nodes.kubeconfig(pods.namespace))
        pods.planned = pods.cluster.cli("plan", str(pods.cluster.spec)).stdout
        pods.cluster.up()
        yield pods
        pods.cluster.clean_up()


def test_a_plan_tells_the_size_of_a_pod_and_that_its_price_is_not_known(pods: Pods) -> None:
    assert "1cpu-0.25gib" in pods.planned


def until(gate: Path, then: str) -> tuple[str, ...]:
    """A job that waits for the file `gate`."""
    return "--", "sh", "-c", f"until [ -e {gate} ]; do sleep 0.1; done; {then}"


def test_jobs_run_in_pods_which_come_and_go_with_them(pods: Pods) -> None:
    cluster, gate = pods.cluster, pods.cluster.directory / "go"
    wait_until(lambda: len(cluster.ready_nodes("cpu")) == 1, what="the first pod ready")
    jobs = [cluster.submit("--cpus", "1", *until(gate, "echo from $CLUSTERCTL_NODE_ID")) for _ in range(3)]
    wait_until(lambda: len(cluster.ready_nodes("cpu")) == 3, what="three pods ready")
    gate.touch()
    for job in jobs:
        cluster.wait_job(job, "succeeded")
    assert "from cpu-" in cluster.cli("logs", jobs[0]).stdout
    wait_until(lambda: len(pods.names()) == 2, what="the head's pod, and one worker")
    gate.unlink()


def test_an_evicted_pod_is_replaced_and_says_why_it_went(pods: Pods) -> None:
    cluster, gate = pods.cluster, pods.cluster.directory / "go"
    job = cluster.submit("--cpus", "1", "--max-retries", "2", *until(gate, "echo done"))
    cluster.wait_job(job, "running")
    wait_until(lambda: len(cluster.ready_nodes("cpu")) == 1, what="one pod, in which it runs")
    (node,) = cluster.ready_nodes("cpu")
    (name,) = pods.names(node["id"])
    pods.kubelet.evict(name, "The node was low on resource: memory.")
    wait_until(lambda: name not in pods.names(), what="the evicted pod deleted")
    gate.touch()
    cluster.wait_job(job, "succeeded")
    assert "The node was low on resource: memory" in cluster.cli("events", "--json").stdout


def test_down_leaves_nothing(pods: Pods) -> None:
    pods.cluster.down()
    wait_until(lambda: not pods.objects(), what="nothing left")
    wait_until(lambda: not pods.names(), what="no pod left")


def test_a_cluster_whose_home_is_lost_is_found_adopted_and_taken_down(pods: Pods) -> None:
    cluster = pods.cluster
    cluster.up()
    before = pods.names()
    assert len(before) == 2
    cluster.end_looks()
    for process in cluster.processes():  # of the head: agents are the kubelet's
        process.kill()
    shutil.rmtree(cluster.home / "clusters")
    assert "demo" in cluster.cli("gc", "--dry-run").stdout and pods.names() == before
    adopted = cluster.cli("list", "--adopt")
    assert "kubernetes, 2 instances" in adopted.stdout + adopted.stderr
    cluster.down()
    wait_until(lambda: not pods.objects() and not pods.names(), what="all of it collected")
