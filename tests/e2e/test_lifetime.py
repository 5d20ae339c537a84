"""Clusters that end themselves: nothing of them runs afterwards, and what is left is said."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from clusterctl.client.registry import read_json
from tests.e2e.conftest import PLAIN
from tests.support.cluster import LocalCluster, wait_until

SAVES = "trap 'until [ -e GO ]; do sleep 0.1; done; echo saved; exit 0' TERM; echo begun; while :; do sleep 0.1; done"


def ended(cluster: LocalCluster) -> bool:
    return (cluster.head_dir / "ended.json").exists() and not cluster.processes()


def test_a_cluster_ends_itself_after_its_last_job_and_up_starts_it_again(
    make_cluster: Callable[..., LocalCluster],
) -> None:
    cluster = make_cluster(PLAIN + "lifetime: {after_last_job: 1s, idle: 2h}\n")
    assert cluster.status()["lifetime"]["rule"] == "idle"
    assert cluster.cli("submit", "--submission-id", "one", "--", "echo", "hello").stdout == "hello\n"
    wait_until(lambda: ended(cluster), what="it has ended itself")
    (listed,) = cluster.json("list")["clusters"]
    assert (listed["state"], listed["nodes"], listed["ended"]["rule"]) == ("ended", 0, "after_last_job")
    status = cluster.json("status")
    assert (status["state"], status["jobs"]["succeeded"], status["cost"]["per_hour"]) == ("ended", 1, 0.0)
    for said in (status["reason"], cluster.cli("jobs", code=4).stderr):
        assert "cluster 'demo' ended itself at" in said and "its last job had ended 1 s before" in said
    cluster.spec.write_text(PLAIN)
    assert "had ended itself: it is started again" in cluster.cli("up", str(cluster.spec)).stderr
    assert cluster.cli("logs", "one").stdout == "hello\n" and cluster.status()["lifetime"] is None
    cluster.down()
    assert not cluster.head_dir.exists()


def test_a_head_that_is_killed_while_it_ends_the_cluster_goes_on_ending_it(cluster: LocalCluster) -> None:
    """At a moment, whatever runs: the program is told, and has its time to save what it has."""
    go = cluster.directory / "go"
    job = cluster.submit("--", "sh", "-c", SAVES.replace("GO", str(go)))
    cluster.wait_job(job, "running")
    at = datetime.now(timezone.utc) + timedelta(seconds=10)  # the time that `up` needs on a busy machine
    cluster.spec.write_text(PLAIN + f"lifetime: {{at: '{at:%Y-%m-%dT%H:%M:%SZ}'}}\n")
    said = cluster.cli("up", str(cluster.spec)).stdout
    assert f"it ends itself at {at:%Y-%m-%d %H:%M} UTC, in " in said
    wait_until(lambda: read_json(cluster.head_dir / "lifetime.json").get("ending"), what="it is decided, and on disk")
    first = cluster.head_pid()
    cluster.kill(first)
    wait_until(lambda: cluster.head_pid() != first, what="its supervisor has started another head")
    late = cluster.cli("submit", "--", "true", code=5).stderr
    assert "takes no jobs any more: it is ending itself, since its spec says `lifetime" in late
    cluster.spec.write_text(PLAIN)
    assert "takes no spec any more" in cluster.cli("up", str(cluster.spec), code=5).stderr
    go.touch()
    wait_until(lambda: ended(cluster), what="the second head has ended it")
    cluster.up()
    found = cluster.job(job)
    assert found["state"] == "cancelled" and "the cluster ended itself" in found["reason"]
    log = cluster.cli("logs", job).stdout.splitlines()
    assert (log[0], log[-1]) == ("begun", "saved")
