"""What Ray wants, told to its user: why a driver waits, what keeps a node, and that nothing is kept or bought for nothing.

One cluster on a rehearsed cloud that boots real nodes here, so that GPUs have types, and nodes zones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cluster import LocalCluster, wait_until

SPEC = """\
cluster: demo
provider:
  fake:
    boot: local
    zones: [z1]
    types:
      small: {CPU: 2, price: 0.1}
      gpu: {CPU: 1, GPU: 1, licence: 1, price: 1.0, gpu_type: L4}
pools:
  - {name: cpu, min: 0, max: 2, instances: [small], idle_timeout: 1s}
  - {name: gpu, min: 0, max: 1, instances: [gpu], idle_timeout: 1s, labels: {team: vision}}
"""
START = "import ray, sys, time\nray.init(log_to_driver=False, logging_level='ERROR')\n"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    made = LocalCluster(tmp_path_factory.mktemp("waits"), SPEC)
    try:
        made.up()
        yield made
        made.down()
        assert made.processes() == []
    finally:
        made.clean_up()


ENDS_KEEPER = """
for actor in ray.util.list_named_actors(all_namespaces=True):
    ray.kill(ray.get_actor(**actor))
"""


@pytest.fixture
def empty(cluster: LocalCluster) -> None:
    """Nothing is left of the tests before, nor of this one's first try: no job, no actor, and so no node but the head."""
    for job in cluster.json("jobs", "--state", "running")["jobs"]:
        cluster.cli("job", "cancel", job["id"])
    if any(node["pool"] != "head" for node in cluster.status()["nodes"]):
        cluster.cli("submit", "--cpus", "0", script(cluster, "ends", ENDS_KEEPER))
    wait_until(
        lambda: all(node["pool"] == "head" for node in cluster.status()["nodes"]), what="the nodes go that nobody needs"
    )


def script(cluster: LocalCluster, name: str, text: str) -> str:
    path = cluster.directory / f"{name}.py"
    path.write_text(START + text)
    return str(path)


def explained(cluster: LocalCluster, subject: str, code: str) -> dict[str, Any]:
    """The explanation, once its reason has this code."""

    def found() -> dict[str, Any] | None:
        document = cluster.json("explain", subject)
        return document if document["reason"]["code"] == code else None

    return wait_until(found, what=f"{subject} is explained by {code}")


def test_a_job_that_asks_for_nothing_gets_a_node(cluster, empty):
    done = cluster.cli("submit", "--cpus", "0", "--", "echo", "placed")
    assert done.stdout.strip() == "placed"
    # The first look finds it being launched, or its node booting by then.
    assert re.search(
        r"waiting for a place on any node: (launching small in z1|cpu-\d+ \(small in z1\) is )", done.stderr
    )


def test_a_driver_whose_work_can_never_be_placed_says_so_while_it_is_followed(cluster):
    text = """
@ray.remote(num_cpus=64)
def large(): pass
waiting = large.remote()
group = ray.util.placement_group([{"CPU": 1}] * 4, strategy="STRICT_SPREAD")
print("asked", flush=True)
time.sleep(600)
"""
    following = cluster.start("submit", script(cluster, "never", text))
    assert following.stderr is not None
    said = ""
    for line in following.stderr:
        said += line
        if line.startswith("running; "):
            break
    assert "is served whole or not at all" in said or "is more than any pool can give" in said, said
    (job,) = [job for job in cluster.json("jobs")["jobs"] if job["state"] == "running"]
    found = wait_until(lambda: (d := cluster.json("job", "show", job["id"])) and "64" in d["reason"] and d, what="both")
    assert found["wait"]["text"].startswith(
        "1 task waits: 64 x CPU is more than any pool can give: the largest node of pool cpu"
    )
    assert found["wait"]["text"].endswith(" (and 1 more of its wishes)")
    document = explained(cluster, job["id"], "too_large")
    assert "runs on head-1; 1 task waits: 64 x CPU is more than" in document["reason"]["text"]
    assert document["reason"]["fix"] == "ask for 2 x CPU, or add a pool with larger nodes"
    spread = [d for d in cluster.status()["demand"] if d["source"] == "placement_group"]
    assert "a gang of 4 (4 times 1 x CPU) on as many nodes is served whole or not at all" in spread[0]["reason"]
    cluster.cli("job", "cancel", job["id"])
    following.communicate(timeout=60)
    assert not cluster.ready_nodes("cpu"), "nothing is bought for what can never be whole"


def test_work_that_selects_by_rays_own_labels_runs_on_the_node_that_was_bought_for_it(cluster, empty):
    text = """
labels = {"ray.io/accelerator-type": "L4", "ray.io/node-group": "gpu", "ray.io/availability-zone": "z1",
          "ray.io/market-type": "on-demand", "team": "in(vision,nlp)"}
@ray.remote(num_gpus=0.5, num_cpus=0, resources={"licence": 0.5}, label_selector=labels, accelerator_type="L4")
def selective(): return ray.get_gpu_ids()
print("ran on", ray.get(selective.remote()))
"""
    done = cluster.cli("submit", script(cluster, "labels", text))
    assert "ran on [0]" in done.stdout
    assert "running; 1 task waits for 0.5 x GPU, 0.5 x licence (L4)" in done.stderr and "gpu in z1" in done.stderr


def test_a_node_says_which_detached_actor_or_request_keeps_it_and_a_request_ends_with_its_driver(cluster, empty):
    text = """
from ray.autoscaler.sdk import request_resources
@ray.remote(num_cpus=1)
class Keeper:
    def ping(self): return ray.get_runtime_context().get_node_id()
keeper = Keeper.options(name="keeper", namespace="kept", lifetime="detached").remote()
ray.get(keeper.ping.remote())
request_resources(num_cpus=4)
print("asked", flush=True)
time.sleep(600)
"""
    job = cluster.submit(script(cluster, "keeps", text))
    wait_until(lambda: len(cluster.ready_nodes("cpu")) == 2, what="two nodes for four CPUs")
    reasons: dict[str, dict[str, Any]] = {}

    def both() -> bool:
        for node in cluster.ready_nodes("cpu"):
            reason = cluster.json("explain", node["id"])["reason"]
            reasons[reason["code"]] = reason
        return {"requested", "working"} <= set(reasons)

    wait_until(both, what="each says what keeps it")
    assert reasons["working"]["text"] == f"it runs engine: detached actor keeper of {job}"
    assert reasons["requested"]["text"] == "nothing runs on it, but it stays for request_resources of 4 times 1 x CPU"
    assert reasons["requested"]["fix"].startswith(f"asked for by {job}: it ends with that")
    cluster.cli("job", "cancel", job)
    wait_until(lambda: len(cluster.ready_nodes("cpu")) == 1, what="its request ends with it, and the idle node goes")
    assert "request_forgotten" in {event["code"] for event in cluster.json("events")["events"]}


def test_a_cluster_whose_ray_lacks_serve_says_what_to_write_into_the_spec(cluster: LocalCluster) -> None:
    work = cluster.directory / "service"
    work.mkdir(exist_ok=True)
    (work / "main.py").write_text("app = None\n")
    refused = cluster.cli("serve", "deploy", "main:app", "--working-dir", str(work), code=1).stderr
    assert "version 1 of main failed, nothing answers there" in refused and "extras: [serve]" in refused
    assert cluster.json("serve", "status")["applications"][0]["state"] == "failed"
    cluster.cli("serve", "delete", "--all")
    assert cluster.json("serve", "status")["applications"] == []
