"""Ray on a cluster of ours against the same Ray started by hand: demand, and the start of a worker."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.bench.by_hand import ray_by_hand
from tests.bench.rows import Row, percentile, row
from tests.bench.scaling import RAY_V2_INTERVAL
from tests.support.cluster import LocalCluster, wait_until

NODES = 4
SPEC = f"""\
cluster: bench
provider: local
pools:
  - {{name: cpu, min: 0, max: {NODES}, resources: {{CPU: 1}}}}
"""
STEPS = f"""
import ray, time, json
ray.init(logging_level="ERROR")
@ray.remote(num_cpus=1)
def hold(): time.sleep(120)
held = []
for _ in range({NODES}):
    print("ASKED", time.time(), flush=True)
    held.append(hold.remote())
    time.sleep(14)
"""


def run() -> list[Row]:
    with tempfile.TemporaryDirectory() as directory:
        cluster = LocalCluster(Path(directory), SPEC, "bench")
        try:
            cluster.up(timeout=180)
            rows = _scale_up(cluster)
        finally:
            cluster.clean_up()
    with ray_by_hand() as (_, seconds):
        started = next(r for r in rows if r["name"].startswith("worker"))
        started.update(row(started["name"], started["ours"], seconds, "ray start, worker", "s", "<= peer + 1 s"))
    return rows


def _scale_up(cluster: LocalCluster) -> list[Row]:
    """Each task needs one more node: from `remote()` to the call, and from the call to the node that takes work."""
    wait_until(lambda: not cluster.ready_nodes() or _drain_all(cluster), 120, "no worker is left")
    process = cluster.start("submit", str(_write(cluster, STEPS)))
    known = {n["id"] for n in cluster.status()["nodes"]}
    wait_until(lambda: len({n["id"] for n in cluster.ready_nodes()} - known) == NODES, 180, "all nodes")
    process.terminate()
    output = process.communicate(timeout=30)[0]
    asked = [float(line.split()[1]) for line in output.splitlines() if line.startswith("ASKED")]
    stories = [{e["event"]: e["at"] for e in cluster.json("explain", n["id"])["story"]} for n in cluster.ready_nodes()]
    called = sorted(story["intend"] for story in stories)
    delays = [call - ask for ask, call in zip(asked, called, strict=False)]
    starts = [story["ready"] - story["intend"] for story in stories]
    return [
        row(
            "Ray task to provider call, p95",
            percentile(delays, 0.95),
            RAY_V2_INTERVAL,
            "Ray v2's interval",
            "s",
            "<= 1 s",
        ),
        row("worker asked for to ready (with raylet)", percentile(starts, 0.5), None, "", "s"),
    ]


def _drain_all(cluster: LocalCluster) -> bool:
    for node in cluster.ready_nodes():
        cluster.cli("node", "drain", node["id"], code=None)
    return not cluster.ready_nodes()


def _write(cluster: LocalCluster, text: str) -> Path:
    work = cluster.directory / "steps"
    work.mkdir()
    (work / "job.py").write_text(text)
    return work / "job.py"
