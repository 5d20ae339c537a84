"""Clouds, simulated over real HTTP, side by side: calls per node, the way past missing capacity, demand to the first call, one
look at 2,000 instances; and in `clouds_join` how soon machines take work."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench import clouds_join
from tests.bench.rows import Row, percentile, row, timed
from tests.bench.subjects import SUBJECTS, Subject
from tests.support.cluster import LocalCluster, wait_until

MANY = 2000
RATE = 5.0  # calls a second that the stand-in allows
DEMANDS = 15


def run() -> list[Row]:
    rows: list[Row] = []
    for subject in SUBJECTS:
        for measure in (_launches, _fall_back, _list):
            with tempfile.TemporaryDirectory() as directory, subject.open("") as cloud:
                stage = subject.stage.Stage(Path(directory), cloud, [subject.stage.pool(market=subject.stage.BOTH)])
                rows += measure(subject, stage, cloud)
                stage.close()
        rows += _first_call(subject)
    for subject in SUBJECTS:
        rows += clouds_join.run(subject)
    return rows


def _launches(subject: Subject, stage: Any, cloud: Any) -> list[Row]:
    """200 nodes where the cloud allows five calls a second, the first launch of a cluster: images, network, rules included."""
    cloud.world.limit("*", burst=20, per_second=RATE)
    provider = stage.open(calls_per_second=RATE)
    offer = provider.offers(stage.pools[0])[0]
    requests = [stage.request(f"cpu-{n}", offer) for n in range(1, 201)]
    before = len(cloud.world.calls)
    seconds = timed(lambda: provider.create(requests))
    calls = len(cloud.world.calls) - before
    assert subject.made(cloud) == 200
    provider.close()
    return [
        row(f"{subject.title}: calls per node, 200 nodes", calls / 200, None, "", "calls", subject.calls),
        row(
            f"{subject.title}: 200 launches accepted, 5 calls/s", seconds, None, "", "s", "part of boot + 30 s"
        ),
    ]  # fmt: skip


def _fall_back(subject: Subject, stage: Any, cloud: Any) -> list[Row]:
    """The first three offers have no capacity; planner and provisioner find the fourth."""
    for offer in stage.provisioner.offers()[:3]:
        cloud.world.capacity[f"{offer.instance_type}/{offer.zone}/{offer.market}"] = 0
    started = time.perf_counter()
    while not subject.made(cloud):
        stage.want(1)
    seconds = time.perf_counter() - started
    return [row(f"{subject.title}: past three offers without capacity", seconds, None, "ray up: never", "s", "<= 5")]


def _list(subject: Subject, stage: Any, cloud: Any) -> list[Row]:
    offer = stage.provider.offers(stage.pools[0])[0]
    made = stage.provider.create([stage.request(f"cpu-{n}", offer) for n in range(1, MANY + 1)])
    assert len(made) == MANY
    stage.provider.list()  # the stand-in may serialise each instance once: not ours to measure
    settings = {**subject.settings(cloud), "calls_per_second": 500.0}
    command = [
        sys.executable,
        "-c",
        subject.program,
        stage.uid,
        json.dumps(settings),
        str(stage.directory / "other"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, before, peak, complete, count = json.loads(done.stdout)
    assert complete and count == MANY
    title = subject.title
    return [
        row(f"{title}: one look at {MANY} instances", seconds, None, "", "s", "<= 5"),
        row(f"{title}: peak RSS of a process that looks at {MANY}", peak, None, "", "MB", "<= 250"),
        row(f"{title}: of it before the look (Python, {subject.library})", before, None, "", "MB", ""),
    ]


def _first_call(subject: Subject) -> list[Row]:
    """From a job's submission to the launch that it causes, through the real head."""
    with tempfile.TemporaryDirectory() as directory, subject.open("") as cloud:
        # each job needs an instance of its own, and no node ever comes: nothing boots what runs here
        settings = {**subject.settings(cloud), "head_address": "127.0.0.1"}
        cluster = LocalCluster(
            Path(directory),
            f"cluster: bench\nprovider: {json.dumps({subject.provider: settings})}\n"
            f"engine: none\npools:\n  - {{name: cpu, instances: [{subject.small}], max: {DEMANDS + 2}}}\n",
            "bench",
        )
        try:
            cluster.cli(
                "up", str(cluster.spec), "-y", "--timeout", "3s", code=None
            )  # the head's own node never comes either
            times = [_one_demand(subject, cluster, cloud) for _ in range(DEMANDS)]
        finally:
            cluster.cli("down", "-y", code=None)
            cluster.clean_up()
    name = f"{subject.title}: demand to first provider call, p95"
    return [row(name, percentile(times, 0.95), None, "", "s", "<= 1")]


def _one_demand(subject: Subject, cluster: LocalCluster, cloud: Any) -> float:
    def launches() -> list[float]:
        return [at for at, action, _ in cloud.world.calls if action in subject.launches]

    before, wall = len(launches()), time.time() - time.monotonic()
    job = cluster.job(cluster.submit("--cpus", "2", "--", "true"))
    wait_until(lambda: len(launches()) > before, 30, "a launch")
    return launches()[before] - (float(job["submitted"]) - wall)
