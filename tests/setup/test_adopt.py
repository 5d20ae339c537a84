"""`list --adopt`: a cluster whose home was lost is found again by the tags of its instances."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.cluster import LocalCluster, wait_until

FAKE = """\
cluster: lost
provider:
  fake:
    boot: local
    directory: {directory}
    types: {{small: {{CPU: 1, price: 0.1}}}}
engine: none
pools: [{{name: cpu, min: 1, max: 2, instances: [small]}}]
"""
LOCAL = "cluster: lost\nprovider: local\nengine: none\npools: [{name: cpu, min: 1, max: 2, resources: {CPU: 1}}]\n"


def lose(cluster: LocalCluster) -> str:
    """Ends the head as a crash would and removes all that is known of the cluster here; returns its uid."""
    uid = cluster.status()["uid"]
    for pid in (int((cluster.head_dir / "supervisor.pid").read_text()), cluster.head_pid()):
        cluster.kill(pid)
    shutil.rmtree(cluster.home)
    return uid


def found(cluster: LocalCluster, uid: str, *args: str) -> list[dict[str, Any]]:
    """Other clusters on the machine that runs this test are none of its business."""
    document = json.loads(cluster.cli("list", "--adopt", "--json", *args).stdout)
    return [finding for finding in document["found"] if finding["uid"] == uid]


def test_a_lost_cluster_is_known_again_and_up_goes_on_under_its_uid(
    make_cluster: Callable[..., LocalCluster], tmp_path: Path
) -> None:
    cluster = make_cluster(FAKE.format(directory=tmp_path / "cloud"), name="lost")
    cluster.up()
    uid = lose(cluster)
    (finding,) = found(cluster, uid, str(cluster.spec))
    assert finding["adopted"] and finding["provider"] == "fake" and finding["instances"] == 2
    assert finding["nodes"] == ["cpu-1", "head-1"]
    assert any("queue" in text for text in finding["lost"]), "what cannot be found again is said"
    assert found(cluster, uid, str(cluster.spec)) == [], "it is known by now"
    cluster.up()
    status = cluster.status()
    assert status["uid"] == uid
    assert {n["id"] for n in status["nodes"] if n["state"] == "ready"} == {"cpu-2", "head-2"}, "its nodes were replaced"
    cluster.down()
    wait_until(lambda: not cluster.processes(), what="nothing of it runs")


def test_a_lost_local_cluster_is_taken_down_without_its_spec(make_cluster: Callable[..., LocalCluster]) -> None:
    cluster = make_cluster(LOCAL, name="lost")
    cluster.up()
    uid = lose(cluster)
    (finding,) = found(cluster, uid)
    assert finding["adopted"] and finding["provider"] == "local" and cluster.processes()
    cluster.down()
    wait_until(lambda: not cluster.processes(), what="nothing of it runs")


def test_a_cluster_that_another_home_looks_after_is_left_to_it(make_cluster: Callable[..., LocalCluster]) -> None:
    cluster = make_cluster(LOCAL, name="lost")
    cluster.up()
    other = make_cluster(LOCAL, name="lost")
    (finding,) = found(other, cluster.status()["uid"])
    assert not finding["adopted"] and "another home" in finding["why"]
    assert other.json("list")["clusters"] == []
