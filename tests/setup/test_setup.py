"""`setup`, `files` and `env` of the spec on real local clusters."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.support.cluster import LocalCluster, wait_until

MakeCluster = Callable[..., LocalCluster]
SPEC = """\
cluster: demo
provider: local
engine: none
env: {{GREETING: hello}}
files:
  - {{from: ./data, to: data}}
  - {{from: one.txt, to: conf/renamed.txt}}
setup:
  - echo "$GREETING from $CLUSTERCTL_NODE_ID"; echo ran >> {tally}
  - cp data/a.txt made.txt
pools:
  - {{name: cpu, min: 1, max: 2, resources: {{CPU: 2}}, env: {{WHOSE: pool}}, setup: ['{pool}']}}
"""
FILES = {"data/a.txt": "first", "data/sub/b.txt": "b", "data/.gitignore": "*.tmp\n", "data/x.tmp": "x", "one.txt": "1"}


def spec_of(directory: Path, pool: str = "echo $WHOSE > whose.txt") -> str:
    return SPEC.format(tally=directory / "tally", pool=pool)


def ran(cluster: LocalCluster) -> int:
    return len((cluster.directory.parent / "tally").read_text().splitlines())


def read(cluster: LocalCluster, script: str) -> str:
    return cluster.cli("submit", "-q", "--", "bash", "-c", f"cd $CLUSTERCTL_FILES && {script}").stdout.strip()


def test_files_and_setup_are_done_once_before_a_node_takes_work_and_changes_reach_it_while_it_works(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    cluster = make_cluster(spec_of(tmp_path), FILES)
    cluster.up()
    assert read(cluster, "cat made.txt data/sub/b.txt conf/renamed.txt whose.txt; ls -A data") == (
        "firstb1pool\n.gitignore\na.txt\nsub"
    )
    assert ran(cluster) == 2, "once on the head node, once on the worker"
    assert "hello from cpu-1" in cluster.cli("logs", "cpu-1").stdout
    story = [item["reason"] for item in cluster.json("explain", "cpu-1")["story"]]
    assert any(reason.startswith("setup 2 of 3: cp data/a.txt made.txt") for reason in story)
    cluster.up()
    assert ran(cluster) == 2, "the same content is not set up again"

    worker = cluster.ready_nodes("cpu")[0]
    job = cluster.submit("--", "bash", "-c", f"touch {tmp_path}/begun; until [ -e {tmp_path}/go ]; do sleep 0.05; done")
    wait_until(lambda: (tmp_path / "begun").exists(), what="the job runs")
    (cluster.directory / "data/a.txt").write_text("second")
    (cluster.directory / "data/sub/b.txt").unlink()
    cluster.up()
    assert read(cluster, "cat made.txt; ls data") == "seconda.txt"
    assert ran(cluster) == 4
    now = cluster.ready_nodes("cpu")[0]
    assert (now["id"], now["instance_id"]) == (worker["id"], worker["instance_id"]), "no node was replaced"
    (tmp_path / "go").touch()
    assert len(cluster.wait_job(job, "succeeded")["attempts"]) == 1


def test_a_setup_that_fails_is_tried_again_then_up_fails_with_what_it_printed(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    cluster = make_cluster(spec_of(tmp_path, pool="echo no such wheel >&2; exit 7"), FILES)
    done = cluster.cli("up", str(cluster.spec), "-y", "--timeline", "out.html", code=1)
    assert "setup command 3 (`echo no such wheel >&2; exit 7`) ended with exit code 7, tried 3 times" in done.stderr
    assert "    no such wheel" in done.stderr, "the output's end is shown"
    events = [e for e in cluster.json("events")["events"] if e["code"] == "setup_failed"]
    assert events and events[0]["subject"].startswith("cpu-")
    failed = cluster.json("explain", events[0]["subject"])
    assert "no such wheel" in failed["output"]
    trace = json.loads((cluster.directory / "out.json").read_text())["traceEvents"]
    assert {"setup", "failed"} <= {event["name"] for event in trace}, "also of an up that failed"


def test_a_changed_setup_that_fails_leaves_running_nodes_as_they_are_and_up_says_so(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    cluster = make_cluster(spec_of(tmp_path), FILES)
    cluster.up()
    before = [(n["id"], n["instance_id"]) for n in cluster.ready_nodes("cpu")]
    cluster.spec.write_text(spec_of(tmp_path, pool=f"test -e {tmp_path}/mended"))
    done = cluster.cli("up", str(cluster.spec), "-y", code=1)
    assert "cpu-1: setup command 3" in done.stderr
    assert [(n["id"], n["instance_id"]) for n in cluster.ready_nodes("cpu")] == before
    assert read(cluster, "cat made.txt") == "first", "it still takes work"
    (tmp_path / "mended").touch()
    cluster.up()


def test_a_setup_under_way_survives_the_death_of_the_head_and_is_not_run_twice(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    cluster = make_cluster(spec_of(tmp_path, pool=f"until [ -e {tmp_path}/go ]; do sleep 0.05; done"), FILES)
    with cluster.start("up", str(cluster.spec), "-y") as up:
        wait_until((tmp_path / "tally").exists, what="a setup began")
        wait_until(lambda: any(n["code"] == "preparing" and n["pool"] == "cpu" and "setup 3" in n["reason"]
                               for n in cluster.status()["nodes"]), 60, "the worker is in its setup")  # fmt: skip
        first = cluster.head_pid()
        cluster.kill(first)
        wait_until(lambda: cluster.head_pid() != first, what="another head runs")
        (tmp_path / "go").touch()
        _, said = up.communicate(timeout=120)
    assert up.returncode == 0, said
    assert [n["id"] for n in cluster.ready_nodes("cpu")] == ["cpu-1"]
    assert ran(cluster) == 2, "once on the head node, once on the worker"


def test_a_file_that_is_not_there_is_named_with_its_place_before_anything_is_started(make_cluster: MakeCluster) -> None:
    cluster = make_cluster("cluster: demo\nprovider: local\nengine: none\nfiles: [{from: nowhere, to: x}]\n"
                           "pools: [{name: cpu, resources: {CPU: 1}}]\n")  # fmt: skip
    done = cluster.cli("up", str(cluster.spec), code=2)
    assert "cluster.yaml:4:" in done.stderr and "there is no file or directory" in done.stderr
    assert not cluster.home.exists() or not (cluster.home / "clusters").exists()


def test_a_local_node_puts_files_only_into_its_own_directory(make_cluster: MakeCluster) -> None:
    cluster = make_cluster("cluster: demo\nprovider: local\nengine: none\nfiles: [{from: ., to: /data}]\n"
                           "pools: [{name: cpu, resources: {CPU: 1}}]\n")  # fmt: skip
    done = cluster.cli("validate", str(cluster.spec), code=2)
    assert "keeps to its own directory: '/data' is outside (write `to: data`" in done.stderr
