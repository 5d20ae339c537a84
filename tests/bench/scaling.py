"""From demand to the provider call, and from the call to a node that takes work (local provider, no engine)."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.bench.rows import Row, percentile, row
from tests.support.cluster import LocalCluster

NODES = 15
RAY_V2_INTERVAL = 5.0  # seconds between two looks of Ray's own autoscaler: its shortest answer is one of them
SPEC = f"""\
cluster: bench
provider: local
engine: none
pools:
  - {{name: cpu, min: 0, max: {NODES}, resources: {{CPU: 1}}}}
"""


def run() -> list[Row]:
    with tempfile.TemporaryDirectory() as directory:
        cluster = LocalCluster(Path(directory), SPEC, "bench")
        try:
            cluster.up()
            return _measure(cluster)
        finally:
            cluster.clean_up()


def _measure(cluster: LocalCluster) -> list[Row]:
    decided, ready = [], []
    for _ in range(NODES):
        job_id = cluster.submit("--", "sleep", "120")
        job = cluster.wait_job(job_id, "running")
        story = {e["event"]: e["at"] for e in cluster.json("explain", job["attempts"][0]["nodes"][0])["story"]}
        decided.append(story["intend"] - job["submitted"])
        ready.append(story["ready"] - story["intend"])
    peer = "Ray v2's interval"
    return [
        row("queued job to provider call, p95", percentile(decided, 0.95), RAY_V2_INTERVAL, peer, "s", "<= 1 s"),
        row("node asked for to ready (agent), median", percentile(ready, 0.5), None, "", "s", "<= 1 s"),
        row("node asked for to ready (agent), p95", percentile(ready, 0.95), None, "", "s", "<= 1 s"),
    ]
