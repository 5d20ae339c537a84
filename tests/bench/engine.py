"""Ray on a cluster of ours against the same Ray started by hand: demand, start of a worker, and its own task path."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.rows import Row, percentile, row
from tests.bench.scaling import RAY_V2_INTERVAL
from tests.support.cluster import LocalCluster, wait_until

NODES = 4
RAY = str(Path(sys.executable).parent / "ray")
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
TASKS = """
import ray, time, json
ray.init(logging_level="ERROR")
@ray.remote(num_cpus=1)
def noop(): return None
ray.get([noop.remote() for _ in range(50)])
times = []
for _ in range(5):
    started = time.perf_counter()
    ray.get([noop.remote() for _ in range(1000)])
    times.append(1000 / (time.perf_counter() - started))
print("RATE", sorted(times)[2], flush=True)
"""


def run() -> list[Row]:
    with tempfile.TemporaryDirectory() as directory:
        cluster = LocalCluster(Path(directory), SPEC, "bench")
        try:
            cluster.up(timeout=180)
            rate = _rate(_submit(cluster, "tasks", TASKS))
            rows = _scale_up(cluster)
        finally:
            cluster.clean_up()
    by_hand = _by_hand()
    started = next(r for r in rows if r["name"].startswith("worker"))
    started.update(row(started["name"], started["ours"], by_hand["start"], "ray start, worker", "s", "<= peer + 1 s"))
    return [*rows, row("Ray's own tasks", rate, by_hand["rate"], "ray start by hand", "tasks/s", "within noise")]


def _submit(cluster: LocalCluster, name: str, text: str) -> str:
    work = cluster.directory / name
    work.mkdir()
    (work / "job.py").write_text(text)
    return cluster.cli("submit", "--working-dir", str(work), str(work / "job.py"), timeout=240).stdout


def _rate(output: str) -> float:
    return float(next(line for line in output.splitlines() if line.startswith("RATE")).split()[1])


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


def _by_hand() -> dict[str, float]:
    """Head and worker as a person would start them; the worker's start is timed."""
    base = Path(tempfile.mkdtemp(prefix="rb", dir="/tmp"))
    env = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "b" * 64, "RAY_USAGE_STATS_ENABLED": "0"}
    start = [RAY, "start", "--block", "--disable-usage-stats"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True, "env": env}
    head = [
        *start,
        "--head",
        "--port=26379",
        "--num-cpus=0",
        "--dashboard-host=127.0.0.1",
        f"--temp-dir={base}/h",
        "--no-monitor",
    ]
    processes = [subprocess.Popen([*head, "--node-ip-address=127.0.0.1"], **quiet)]
    try:
        env["RAY_ADDRESS"] = "127.0.0.1:26379"
        wait_until(lambda: _nodes(env) == 1, 90, "ray's head")
        began = time.perf_counter()
        worker = [
            *start,
            "--address=127.0.0.1:26379",
            "--num-cpus=1",
            f"--temp-dir={base}/w",
            "--node-ip-address=127.0.0.12",
        ]
        processes.append(subprocess.Popen(worker, **quiet))
        wait_until(lambda: _nodes(env) == 2, 90, "ray's worker")
        took = time.perf_counter() - began
        done = subprocess.run(
            [sys.executable, "-c", TASKS], env=env, capture_output=True, text=True, timeout=180, check=True
        )
        return {"start": took, "rate": _rate(done.stdout)}
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait(timeout=60)
        shutil.rmtree(base, ignore_errors=True)


def _nodes(env: dict[str, str]) -> int:
    """Live nodes by Ray's GCS, asked without starting a driver."""
    code = (
        "from ray._raylet import GcsClient; import json;"
        "c = GcsClient(address='127.0.0.1:26379');"
        "print(sum(n.state == 0 for n in c.get_all_node_info().values()))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    return int(done.stdout.strip() or 0) if done.returncode == 0 else 0
