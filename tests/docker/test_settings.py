"""A provider's settings that change while its cluster runs: in force at once, or refused; never taken silently."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from clusterctl_providers.base import TAG_NODE

from tests.docker.conftest import DockerCluster
from tests.support.cluster import wait_until

SPEC = """\
cluster: demo
provider: {docker: {image: "IMAGE", shm_size: 32MiB}}
engine: none
head: {resources: {CPU: 1, memory: 256MiB}}
pools: [{name: cpu, min: 1, max: 2, resources: {CPU: 1, memory: 256MiB}}]
"""
NOWHERE = "127.0.0.1:1/nobody/has-it:1"


def test_a_wrong_image_is_mended_by_the_next_up_at_once_and_other_settings_reach_new_containers(
    make_cluster: Callable[..., DockerCluster], image: str
) -> None:
    cluster = make_cluster(SPEC.replace("IMAGE", NOWHERE), up=False)
    failed = cluster.cli("up", str(cluster.spec), code=1)
    assert f"the image '{NOWHERE}' is not on the Docker engine" in failed.stderr
    assert failed.stderr.count("could not be pulled") == 2, "once for the head, once for the pool"
    good = SPEC.replace("IMAGE", image)
    cluster.spec.write_text(good)
    began = time.monotonic()
    cluster.cli("up", str(cluster.spec))  # no -y: there is no node to take down
    assert time.monotonic() - began < 60, "refusals are not waited out"

    cluster.spec.write_text(good.replace("32MiB", "48MiB"))
    plan = json.loads(cluster.cli("plan", str(cluster.spec), "--json").stdout)
    (change,) = [action for action in plan["actions"] if action["kind"] == "cluster"]
    assert [(f["name"], f["policy"]) for f in change["fields"]] == [("provider.docker.shm_size", "replace")]
    assert "1 nodes); the head node that runs stays" in change["reason"]

    def sizes() -> list[tuple[str, int]]:
        found = [(c.labels[TAG_NODE], c.attrs["HostConfig"]["ShmSize"] // 2**20) for c in cluster.containers()]
        return sorted((node.partition("-")[0], size) for node, size in found)

    cluster.up()
    wait_until(lambda: sizes() == [("cpu", 48), ("head", 32)], what="the worker is a new one")

    cluster.spec.write_text(good.replace("32MiB", "48MiB, network: other"))
    refused = cluster.cli("up", str(cluster.spec), "-y", code=5)
    assert "the provider.docker.network of a running cluster cannot be changed" in refused.stderr
    cluster.down()
