"""A user rehearses a bad day: a whole cluster on the fake cloud, with real agents and scripted misfortunes."""

from __future__ import annotations

from pathlib import Path

from tests.support.cluster import LocalCluster, wait_until

SPEC = """
cluster: demo
provider:
  fake:
    boot: local
    boot_seconds: 0.2
    zones: [za, zb]
    types:
      head: {CPU: 2, price: 0.05}
      small: {CPU: 1, price: 0.1, spot_price: 0.03}
    faults:
      - {kind: no_capacity, offer: "cpu/*/spot/za"}
      - {kind: lost_answer, call: create, times: 2}
      - {kind: spot_loss, offer: "cpu/*/spot/zb", after: 6, times: 1}
head: {instance: head}
engine: none
pools:
  - {name: cpu, min: 1, max: 3, instances: [small], market: [spot, on-demand]}
"""


def test_a_cluster_lives_through_scripted_misfortunes_and_leaves_nothing(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path, SPEC)
    try:
        cluster.up()
        (first,) = cluster.ready_nodes("cpu")
        assert (first["market"], first["zone"], first["instance_id"]) == ("spot", "zb", "i-fake-000002")
        said = cluster.cli("submit", "--", "python", "-c", "print('it rained')")
        assert "it rained" in said.stdout
        wait_until(lambda: [n["id"] for n in cluster.ready_nodes("cpu")] not in ([], [first["id"]]), what="a new node")
        codes = {event["code"] for event in cluster.json("events")["events"]}
        assert {"no_capacity", "unknown_outcome"} <= codes
    finally:
        cluster.cli("down", "-y", code=None)
    assert cluster.processes() == []


NOTICE = """
cluster: demo
provider:
  fake:
    boot: local
    boot_seconds: 0.2
    zones: [za]
    types: {small: {CPU: 1, price: 0.1, spot_price: 0.03}}
    faults: [{kind: spot_loss, offer: "cpu/*/spot/*", after: 9, notice: 5, times: 1}]
engine: none
pools: [{name: cpu, min: 1, max: 3, instances: [small], market: [spot]}]
"""


def test_a_spot_loss_is_announced_to_the_node_which_drains_while_its_successor_boots(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path, NOTICE)
    try:
        cluster.up()
        (first,) = cluster.ready_nodes("cpu")
        job = cluster.submit("--pool", "cpu", "--max-retries", "1", "--", "sleep", "600")
        wait_until(lambda: cluster.job(job)["state"] == "running", what="it runs")

        def draining() -> bool:
            nodes = {node["id"]: node for node in cluster.status()["nodes"]}
            return nodes.get("cpu-1", {}).get("state") == "draining" and "spot" in nodes["cpu-1"]["reason"]

        wait_until(draining, what="the node drains before it is taken")
        wait_until(lambda: [n["id"] for n in cluster.ready_nodes("cpu")] == ["cpu-2"], 20, "its successor is there")
        events = cluster.json("events")["events"]
        assert "preempt_notice" in {event["code"] for event in events if event["subject"] == first["id"]}
        wait_until(lambda: len(cluster.job(job)["attempts"]) == 2, 30, "its work goes on elsewhere")
        wait_until(lambda: cluster.job(job)["attempts"][1]["nodes"] == ["cpu-2"], 10, "on the successor")
        states = [item["state"] for item in cluster.json("explain", "cpu-1")["story"]]
        assert states.index("draining") < states.index("terminating" if "terminating" in states else "gone")
    finally:
        cluster.cli("down", "-y", code=None)
    assert cluster.processes() == []
