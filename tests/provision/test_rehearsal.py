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
        events = cluster.json("events")["events"]
        first = next(e["subject"] for e in events if e["code"] == "ready" and e["subject"].startswith("cpu-"))
        assert cluster.json("explain", first)["offer"] == "cpu/small/spot/zb", "the other zone was sold out"
        said = cluster.cli("submit", "--", "python", "-c", "print('it rained')")
        assert "it rained" in said.stdout
        wait_until(lambda: [n["id"] for n in cluster.ready_nodes("cpu")] not in ([], [first]), what="a new node")
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
    faults: [{kind: spot_loss, offer: "cpu/*/spot/*", after: 14, notice: 8, times: 1}]
engine: none
pools: [{name: cpu, min: 0, max: 3, instances: [small], market: [spot]}]
"""


def test_a_spot_loss_is_announced_to_the_node_which_drains_while_its_successor_boots(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path, NOTICE)
    try:
        cluster.up()
        job = cluster.submit("--pool", "cpu", "--max-retries", "1", "--", "sleep", "600")
        wait_until(lambda: len(cluster.job(job)["attempts"]) == 2, 90, "its work goes on elsewhere")
        assert [attempt["nodes"] for attempt in cluster.job(job)["attempts"]] == [["cpu-1"], ["cpu-2"]]
        events = cluster.json("events")["events"]
        told = {(event["subject"], event["code"]): event for event in reversed(events)}
        assert "preempt_notice" in {event["code"] for event in events if event["subject"] == "cpu-1"}
        assert "spot" in told["cpu-1", "drain"]["text"], "the node drained before it was taken"
        assert told["cpu-2", "launch"]["at"] < told[job, "retry"]["at"], "its successor was on its way before that"
        states = [item["state"] for item in cluster.json("explain", "cpu-1")["story"]]
        assert states.index("draining") < states.index("terminating" if "terminating" in states else "gone")
    finally:
        cluster.cli("down", "-y", code=None)
    assert cluster.processes() == []
