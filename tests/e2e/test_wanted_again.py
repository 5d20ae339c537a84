"""A node that is being let go of is kept when a job comes in that moment, and the job starts on it."""

from __future__ import annotations

from clusterctl.client.head.api import Api
from clusterctl.client.registry import Registry
from tests.support.cluster import LocalCluster, wait_until


def test_a_job_that_comes_while_its_node_drains_starts_there_at_once(cluster: LocalCluster) -> None:
    cluster.wait_job(cluster.submit("--pool", "cpu", "--", "true"), "succeeded")
    with Api.of(Registry(cluster.home).load(cluster.name)) as api:
        body = {"name": "again", "argv": ["true"], "pool": "cpu", "cpus": 1}

        def draining() -> bool:
            return any(node["state"] == "draining" for node in api.get("/api/v1/status")["nodes"])

        wait_until(draining, what="the idle node is let go of")
        job = api.post("/api/v1/jobs", body)["id"]
    done = cluster.wait_job(job, "succeeded")
    assert done["attempts"][0]["nodes"] == ["cpu-1"]
