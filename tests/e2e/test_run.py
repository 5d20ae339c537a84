"""`run`: a cluster for one job. Whatever happens on the way, nothing of it is left running."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cluster import LocalCluster, wait_until

SPEC = """\
cluster: demo
provider: local
engine: none
pools:
  - {name: cpu, min: 0, max: 1, resources: {CPU: 1}}
"""
SAVES = "trap 'echo saved; exit 0' TERM; echo begun; while :; do sleep 0.1; done"


@pytest.fixture
def cluster(make_cluster: Callable[..., LocalCluster]) -> Iterator[LocalCluster]:
    """One that is not up, and is not before `run` brings it up."""
    yield make_cluster(SPEC, up=False)


def nothing_is_left(cluster: LocalCluster) -> bool:
    return not cluster.processes() and cluster.json("list")["clusters"] == []


def kept(cluster: LocalCluster) -> Path:
    """The only directory that a run has kept."""
    (found,) = [path for path in (cluster.directory / "clusterctl-runs").iterdir() if path.is_dir()]
    return found


def test_a_job_has_its_cluster_its_log_its_files_and_its_exit_code(cluster: LocalCluster) -> None:
    out = cluster.directory / "out.txt"
    (cluster.directory / "job.py").write_text(
        f"import sys\nprint('hello', *sys.argv[1:])\nopen({str(out)!r}, 'w').write('result')\nsys.exit(3)\n"
    )
    wanted = ["--cpus", "1", "--artifacts", str(out), "--artifacts", "/nowhere", "job.py", "--epochs", "2"]
    done = cluster.cli("run", "cluster.yaml", *wanted, code=3)
    assert done.stdout == "hello --epochs 2\n"
    assert "the cluster ends itself 10 min after its last job, or after 30 min in which nothing uses it" in done.stderr
    assert "not kept: cpu-1:/nowhere: " in done.stderr and "is down after" in done.stderr
    assert nothing_is_left(cluster)
    directory = kept(cluster)
    assert (directory / "logs" / "attempt-1-rank-0.log").read_text() == "hello --epochs 2\n"
    assert (directory / "artifacts" / "cpu-1" / "out.txt").read_text() == "result"
    assert json.loads((directory / "job.json").read_text())["exit_code"] == 3
    codes = [json.loads(line)["code"] for line in (directory / "events.jsonl").read_text().splitlines()]
    assert codes[0] == "head_started" and "failed" in codes


def test_ctrl_c_ends_job_and_cluster_and_keeps_what_the_job_still_wrote(cluster: LocalCluster) -> None:
    running = cluster.start("run", "cluster.yaml", "-c", "other", "--", "sh", "-c", SAVES)
    assert running.stdout is not None and running.stdout.readline() == "begun\n"
    late = cluster.cli("run", "cluster.yaml", "-c", "other", "--", "true", code=5).stderr
    assert "cluster 'other' is known here already" in late and "name this one: `run -c NAME`" in late
    os.kill(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=120)
    assert running.returncode == 130 and "Ctrl-C again leaves it as it is" in said
    assert nothing_is_left(cluster)
    assert (kept(cluster) / "logs" / "attempt-1-rank-0.log").read_text().endswith("saved\n")


def test_a_cluster_that_does_not_come_up_is_taken_down(cluster: LocalCluster) -> None:
    cluster.spec.write_text(SPEC.replace("engine: none", "engine: {ray: {python: /no/such/python}}"))
    done = cluster.cli("run", "cluster.yaml", "--json", "--", "true", code=1)
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == ["down"]
    assert "/no/such/python" in done.stderr and "stays as it is" not in done.stderr
    assert nothing_is_left(cluster)


@pytest.mark.parametrize("line", ["engine: none", "is on cluster demo"], ids=["before the job", "with the job"])
def test_a_run_that_is_killed_leaves_a_cluster_that_ends_itself(cluster: LocalCluster, line: str) -> None:
    cluster.spec.write_text(SPEC + "lifetime: {after_last_job: 1s, idle: 3s}\n")
    cluster.kill_when(line, "run", "cluster.yaml", "--", "sleep", "1")
    assert cluster.processes()
    wait_until(lambda: not cluster.processes(), what="it has ended itself")
    assert cluster.json("list")["clusters"][0]["state"] == "ended"
