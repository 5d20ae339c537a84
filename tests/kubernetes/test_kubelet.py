"""A node with a real kubelet and a real Docker engine: what the tests' own kubelet only says happens there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import LocalCluster, wait_until
from tests.support.kubernetes.api import ApiError
from tests.support.kubernetes.fixture import skip_where_there_is_none
from tests.support.kubernetes.kubelet import RealCluster
from tests.support.wheel_index import kept_wheels, serving, wanted

GRACE = 120
PROGRAM = """\
trap 'echo bye >>/said/words; exit 0' TERM
cat /secret/token >/said/words
echo running
while :; do sleep 0.1; done
"""


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    skip_where_there_is_none()
    with RealCluster(tmp_path_factory.mktemp("real") / "cluster") as cluster:
        yield cluster


@pytest.mark.timeout(1200)  # the first run ever builds Kubernetes and the image
def test_a_pod_runs_with_an_address_and_a_secret_and_ends_within_its_grace(real: RealCluster, tmp_path: Path) -> None:
    api, namespace = real.plane.api, real.plane.namespace()
    place = f"/api/v1/namespaces/{namespace}"
    api.create(f"{place}/secrets", {"metadata": {"name": "join"}, "stringData": {"token": "open sesame\n"}})
    container = {
        "name": "main",
        "image": real.image(),
        "command": ["sh", "-c", PROGRAM],
        "resources": {"limits": {"cpu": "500m", "memory": "128Mi"}},
        "volumeMounts": [{"name": "said", "mountPath": "/said"}, {"name": "join", "mountPath": "/secret"}],
    }
    volumes = [
        {"name": "said", "hostPath": {"path": str(tmp_path)}},
        {"name": "join", "secret": {"secretName": "join"}},
    ]
    spec = {"containers": [container], "volumes": volumes, "restartPolicy": "Never"}
    api.create(
        f"{place}/pods", {"metadata": {"name": "real"}, "spec": {**spec, "terminationGracePeriodSeconds": GRACE}}
    )

    def runs() -> bool:
        status = api.get(f"{place}/pods/real")["status"]
        assert status["phase"] in ("Pending", "Running"), (status, real.log())
        return status["phase"] == "Running"

    wait_until(runs, what="the pod runs")
    assert api.get(f"{place}/pods/real")["status"]["podIP"].startswith("10.214.")
    wait_until(lambda: api.text(f"{place}/pods/real/log") == "running\n", what="its log is read through the API server")

    began = time.monotonic()
    api.delete(f"{place}/pods/real")

    def is_gone() -> bool:
        try:
            api.get(f"{place}/pods/real")
        except ApiError as error:
            return error.code == 404
        return False

    wait_until(is_gone, GRACE, what="the pod is gone")
    assert time.monotonic() - began < GRACE / 2, "it was asked, not killed"
    assert (tmp_path / "words").read_text() == "open sesame\nbye\n"


SPEC = """\
cluster: demo
provider:
  kubernetes:
    namespace: NAMESPACE
    image: IMAGE
    head_address: ADDRESS
    pod: {spec: {containers: [{name: node, resources: {requests: {cpu: 100m}}}]}}  # this machine may have two CPUs only
engine: {ray: {version: "2.60.0"}}
head: {resources: {CPU: 1, memory: 3GiB}}
pools:
  - {name: cpu, min: 1, max: 2, resources: {CPU: 1, memory: 2GiB}, idle_timeout: 10s}
"""
FAN_OUT = """
import os, ray, time
ray.init()

@ray.remote(num_cpus=1)
def where(i):
    time.sleep(1)
    return os.environ["CLUSTERCTL_NODE"]

while len(seen := set(ray.get([where.remote(i) for i in range(4)]))) < 2:
    pass
print("on", sorted(seen))
"""


class Cluster(LocalCluster):
    """Its nodes are pods of the real kubelet."""

    def __init__(self, real: RealCluster, directory: Path) -> None:
        self.namespace = real.plane.namespace()
        spec = SPEC.replace("NAMESPACE", self.namespace).replace("IMAGE", real.image())
        super().__init__(directory, spec.replace("ADDRESS", real.machine.outside))
        self.real = real
        self.env["KUBECONFIG"] = str(real.plane.kubeconfig(self.namespace))

    def pods(self) -> dict[str, dict[str, Any]]:
        """By the nodes that they are."""
        found = self.real.plane.api.get(f"/api/v1/namespaces/{self.namespace}/pods")["items"]
        return {pod["metadata"]["labels"]["clusterctl-node"]: pod for pod in found}


@pytest.fixture
def cluster(real: RealCluster, tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(real, tmp_path)
    with serving(*kept_wheels(wanted(python="3.11"))) as index:
        cluster.env["UV_DEFAULT_INDEX"] = index.url
        yield cluster
        cluster.clean_up()


@pytest.mark.timeout(1200)
def test_a_cluster_with_ray_in_real_pods_grows_loses_one_to_an_eviction_and_leaves_nothing(
    real: RealCluster, cluster: Cluster
) -> None:
    api, place = real.plane.api, f"/api/v1/namespaces/{cluster.namespace}"
    cluster.up(timeout=600)
    path = cluster.directory / "job.py"
    path.write_text(FAN_OUT)
    job = cluster.submit("--cpus", "0", str(path))
    cluster.wait_job(job, "succeeded", 300)
    assert "on ['cpu-" in cluster.cli("logs", job).stdout
    assert all(pod["status"]["podIP"].startswith("10.214.") for pod in cluster.pods().values())

    tried = cluster.submit("--cpus", "1", "--max-retries", "2", "--", "sh", "-c", "echo $CLUSTERCTL_NODE; sleep 5")
    cluster.wait_job(tried, "running", 300)
    evicted = cluster.job(tried)["attempts"][-1]["nodes"][0]
    name = cluster.pods()[evicted]["metadata"]["name"]
    api.create(
        f"{place}/pods/{name}/eviction",
        {"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": {"name": name}},
    )
    wait_until(lambda: evicted not in cluster.pods(), what="the evicted pod is gone")
    cluster.wait_job(tried, "succeeded", 300)
    told = [each for each in cluster.json("events")["events"] if each["code"] == "preempt_notice"]
    assert [each["subject"] for each in told] == [evicted], "its SIGTERM is a notice: what runs there may end"

    cluster.down()
    wait_until(lambda: not cluster.pods(), what="no pod is left")
    for kind in ("secrets", "configmaps"):
        left = api.get(f"{place}/{kind}", labelSelector="app.kubernetes.io/managed-by=clusterctl")["items"]
        assert left == []
    wait_until(lambda: not real.docker.containers.list(all=True), what="no container is left")
