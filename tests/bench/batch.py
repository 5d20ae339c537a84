"""2,000 jobs of /bin/true through one agent, each durable, against HyperQueue's LocalCluster with as many CPUs."""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path

from tests.bench.rows import Row, row
from tests.support.cluster import LocalCluster, wait_until

JOBS = 2000
CPUS = 2
SPEC = f"""\
cluster: bench
provider: local
engine: none
pools:
  - {{name: cpu, min: 1, max: 1, resources: {{CPU: {CPUS}}}}}
"""


def run() -> list[Row]:
    ours, peer = _ours(), _hyperqueue()
    return [row("jobs of /bin/true", JOBS / ours, JOBS / peer, "HyperQueue LocalCluster", "jobs/s", ">= 1x")]


def _ours() -> float:
    """Seconds from `submit` of the batch to the end of its last job."""
    with tempfile.TemporaryDirectory() as directory:
        cluster = LocalCluster(Path(directory), SPEC, "bench")
        try:
            cluster.up()
            started = time.perf_counter()
            cluster.cli("submit", "-d", "--array", f"0-{JOBS - 1}", "--", "/bin/true")
            wait_until(lambda: cluster.status()["jobs"]["succeeded"] == JOBS, 300, "the batch")
            jobs = cluster.json("jobs", "--limit", str(JOBS))["jobs"]
            assert all(len(job["attempts"]) == 1 for job in jobs)
            ended = max(job["ended"] for job in jobs) - min(job["submitted"] for job in jobs)
            return max(ended, time.perf_counter() - started - 1.0)
        finally:
            cluster.clean_up()


def _hyperqueue() -> float:
    from hyperqueue import Client, Job
    from hyperqueue import LocalCluster as HqCluster
    from hyperqueue.cluster import WorkerConfig

    # HyperQueue keeps each task's output too, in two files of its working directory.
    with tempfile.TemporaryDirectory() as directory, contextlib.chdir(directory), HqCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=CPUS))
        client: Client = cluster.client()
        job = Job()
        for _ in range(JOBS):
            job.program(["/bin/true"])
        started = time.perf_counter()
        client.wait_for_jobs([client.submit(job)])
        return time.perf_counter() - started
