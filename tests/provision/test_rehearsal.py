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
