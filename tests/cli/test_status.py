"""`status` says what keeps a cluster from being as it should, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clusterctl.cli.render.status import render_status
from tests.support.cluster import LocalCluster, wait_until

NO_HEAD = """
cluster: demo
provider:
  fake:
    boot: local
    boot_seconds: 0.1
    zones: [za]
    types: {big: {CPU: 4, price: 9}, small: {CPU: 1, price: 0.1}}
    faults: [{kind: quota, limit: 0, quota: "vCPUs", offer: "%s/*"}]
head: {instance: small}
engine: none
pools: [{name: cpu, min: 0, max: 2, instances: [big], market: [on-demand]}]
"""


def started(directory: Path, spec: str) -> LocalCluster:
    cluster = LocalCluster(directory, spec)
    cluster.cli("up", str(cluster.spec), "-y", "--timeout", "2s", code=None)
    return cluster


def test_a_head_node_that_cannot_be_launched_is_told_by_status(tmp_path: Path) -> None:
    cluster = started(tmp_path, NO_HEAD % "head")
    try:
        (told,) = wait_until(lambda: cluster.status()["messages"], what="the refusal is told")
        assert told.startswith("head node: ") and "quota" in told
        assert f"! {told}" in cluster.cli("status").stdout.splitlines()
    finally:
        cluster.clean_up()


def test_why_a_pool_gets_no_nodes_is_told_while_something_waits_for_them_and_no_longer(tmp_path: Path) -> None:
    cluster = started(tmp_path, NO_HEAD % "cpu")
    try:
        job = cluster.submit("--cpus", "4", "--", "true")
        (told,) = wait_until(lambda: cluster.status()["messages"], what="the refusal is told")
        assert told.startswith("pool cpu: ") and "quota" in told
        cluster.cli("job", "cancel", job)
        wait_until(lambda: cluster.status()["messages"] == [], what="nothing waits, nothing is told")
    finally:
        cluster.clean_up()


LIMITED = """
cluster: demo
provider:
  fake: {boot: local, boot_seconds: 0.1, zones: [za], types: {small: {CPU: 1, price: 5}}}
engine: none
head: {instance: small}
pools: [{name: cpu, min: 2, max: 2, instances: [small], market: [on-demand]}]
limits: {cost_per_hour: %s}
"""


def test_a_limit_lowered_under_a_running_cluster_lets_idle_nodes_go_says_so_and_ends_work_when_it_is_told_to(
    tmp_path: Path,
) -> None:
    cluster = LocalCluster(tmp_path, LIMITED % 15)
    try:
        cluster.up()
        job = cluster.submit("--max-retries", "0", "--", "sleep", "600")
        wait_until(lambda: cluster.job(job)["state"] == "running", what="the job runs")

        cluster.spec.write_text(LIMITED % 6)
        cluster.cli("up", str(cluster.spec), "-y", "--timeout", "2s", code=None)
        (told,) = wait_until(lambda: over(cluster) if workers(cluster) == 1 else None, what="the idle one has gone")
        assert told.startswith("the cluster costs 10.00 $/h, its limit is 6: ")
        assert "1 nodes (5.00 $/h) go on" in told and "raise limits.cost_per_hour to 10.00" in told
        events = cluster.look("/api/v1/events")["events"]
        assert any(e["code"] == "drain" and "its limit is 6, and nothing runs on it" in e["text"] for e in events)
        assert [e["text"] for e in events if e["code"] == "cost_limit"]
        assert cluster.job(job)["state"] == "running"

        cluster.spec.write_text(LIMITED % "6, drain_after: 1s")
        cluster.cli("up", str(cluster.spec), "-y", "--timeout", "2s", code=None)
        wait_until(lambda: workers(cluster) == 0, what="what ran is ended after its second")
        wait_until(lambda: over(cluster) == [], what="the cluster is within its limit")
        assert cluster.job(job)["state"] in ("queued", "failed")
    finally:
        cluster.clean_up()


def workers(cluster: LocalCluster) -> int:
    return len([node for node in cluster.status()["nodes"] if node["pool"] == "cpu"])


def over(cluster: LocalCluster) -> list[str]:
    return [text for text in cluster.status()["messages"] if text.startswith("the cluster costs")]


DOCUMENT: dict[str, Any] = {
    "cluster": "demo",
    "uid": "0123456789",
    "state": "ready",
    "nodes": [{"id": f"cpu-{n}", "state": "booting"} for n in range(1, 31)],
    "node_counts": {"booting": 40, "ready": 2460},
    "pools": [
        {
            "name": "cpu",
            "provider": "aws",
            "min": 0,
            "max": 9,
            "ready": 3,
            "pending": 4,
            "draining": 0,
            "failed": 1,
            "markets": {"on-demand": 2, "spot": 6},
            "price_per_hour": 1.25,
        },
        {"name": "gpu", "provider": "aws", "min": 0, "max": 9, "markets": {}, "price_per_hour": 0.0},
    ],
    "demand_left_out": 7,
    "engine": {"name": "ray", "state": "failed", "message": "Ray did not start on head-1: port 6379 is taken"},
    "demand": [{"count": 2, "shape": "1 GPU", "source": "queue", "reason": "no pool has GPUs", "fix": "add a pool"}],
    "messages": ["pool cpu: quota of 4 vCPUs is used up\n! forged"],
}


@pytest.mark.parametrize(
    "line",
    [
        "! engine: Ray did not start on head-1: port 6379 is taken",
        "! pool cpu: quota of 4 vCPUs is used up\\n! forged",
        "     2  1 GPU    queue   no pool has GPUs (add a pool)",
        "and 7 more kinds of waiting work",
        "nodes   40 booting, 2,460 ready",
        "and 2,470 more: `clusterctl nodes` lists them",
        "POOL  PROVIDER  SIZE  READY  PENDING  FAILED    $/H  MARKET",
        "cpu   aws       0..9      3        4       1  $1.25  2 on-demand, 6 spot",
        "gpu   aws       0..9      0        0       0  $0.00  -",
    ],
)
def test_what_there_is_and_every_trouble_with_what_mends_it_has_a_line_of_its_own(line: str) -> None:
    assert line in render_status(DOCUMENT, 0.0).splitlines()


def pools_of(engine: str, *engines: str) -> str:
    pools = [{"name": f"p{n}", "provider": "x", "min": 0, "max": 1, "engine": name} for n, name in enumerate(engines)]
    document: dict[str, Any] = {
        "cluster": "demo", "uid": "u" * 36, "node_counts": {}, "nodes": [], "engine": {"name": engine}, "pools": pools,
    }  # fmt: skip
    return render_status(document, 0.0)


def test_pools_say_what_they_serve_where_some_do_not_run_the_engine() -> None:
    mixed = pools_of("ray", "ray", "none")
    assert "SERVES" in mixed and "all work" in mixed and "queue jobs" in mixed
    assert "SERVES" not in pools_of("ray", "ray", "ray") and "SERVES" not in pools_of("none", "none", "none")
