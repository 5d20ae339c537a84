"""The journal of nodes is damaged or gone: a new one finds what runs by its tags, and no job notices."""

from __future__ import annotations

import contextlib
import sqlite3

import psutil

from tests.e2e.test_failures import agent_of
from tests.support.cluster import wait_until


def stop_head(cluster) -> None:
    """Ends the whole control plane, as a machine that loses power does."""
    supervisor = int((cluster.head_dir / "supervisor.pid").read_text())
    for pid in (supervisor, cluster.head_pid()):
        cluster.kill(pid)


def damage_journal(cluster) -> None:
    with contextlib.closing(sqlite3.connect(cluster.head_dir / "nodes.db")) as db:
        db.execute("UPDATE nodes SET checksum = checksum + 1")
        db.commit()


def test_a_head_whose_journal_is_damaged_finds_its_nodes_again_and_jobs_go_on(cluster):
    job_id = cluster.submit("--", "sh", "-c", f"until [ -e {cluster.directory}/go ]; do sleep 0.1; done")
    (node,) = cluster.wait_job(job_id, "running")["attempts"][0]["nodes"]
    before = {n["id"]: n["instance_id"] for n in cluster.status()["nodes"]}
    stop_head(cluster)
    damage_journal(cluster)
    cluster.up()
    assert {n["id"]: n["instance_id"] for n in cluster.status()["nodes"]} == before, "none was launched anew"
    (event,) = [e for e in cluster.json("events")["events"] if e["code"] == "journal_damaged"]
    assert "checksum" in event["text"] and "nodes.db.damaged-1" in event["text"]
    (cluster.directory / "go").touch()
    job = cluster.wait_job(job_id, "succeeded")
    assert [attempt["nodes"] for attempt in job["attempts"]] == [[node]]


def test_a_job_on_a_node_that_nobody_can_find_again_is_tried_again(cluster):
    marks = cluster.directory / "tries"
    script = f"echo try >> {marks}; [ $(wc -l < {marks}) -gt 1 ] || sleep 600"
    job_id = cluster.submit("--max-retries", "1", "--", "sh", "-c", script)
    (node,) = cluster.wait_job(job_id, "running")["attempts"][0]["nodes"]
    wait_until(marks.exists, what="the first try has begun")
    agent = agent_of(cluster, node)
    stop_head(cluster)
    cluster.kill(agent.pid)
    psutil.wait_procs([agent], timeout=60)
    for path in cluster.head_dir.glob("nodes.db*"):
        path.unlink()
    cluster.up()
    job = cluster.wait_job(job_id, "succeeded")
    assert len(job["attempts"]) == 2 and "gone while the head was away" in str(job)
