"""AWS, simulated over real HTTP: calls per node, the way past missing capacity, demand to the first call, one look at 2,000
instances; and in `aws_join` how soon machines take work."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.aws.stage import BOTH, Stage, pool
from tests.bench import aws_join
from tests.bench.rows import Row, percentile, row, timed
from tests.cloud.aws_cloud import REGION, AwsCloud, credentials
from tests.support.cluster import LocalCluster, wait_until

MANY = 2000
RATE = 5.0  # calls a second that the stand-in allows
DEMANDS = 15

# A process that does nothing else: what it needs is the client's, and not the stand-in's.
LOOK = r"""\
import json, re, sys, time
from clusterctl_providers.aws.provider import AwsProvider
from clusterctl_providers.base import ProviderContext
peak = lambda: int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) / 1024
uid, url, region, directory = sys.argv[1:]
settings = {"region": region, "endpoint_url": url, "calls_per_second": 500.0}
provider = AwsProvider(ProviderContext("demo", uid, directory, settings))
provider._calls._client("ec2")
before, started = peak(), time.perf_counter()
(scope,) = provider.list()
print(json.dumps([time.perf_counter() - started, before, peak(), scope.complete, len(scope.instances)]))
"""


def run() -> list[Row]:
    rows: list[Row] = []
    with credentials():
        for measure in (_launches, _fall_back, _list):
            with tempfile.TemporaryDirectory() as directory, AwsCloud() as cloud:
                stage = Stage(Path(directory), cloud, [pool(market=BOTH)])
                rows += measure(stage, cloud)
                stage.close()
        rows += _first_call()
        rows += aws_join.run()
    return rows


def _launches(stage: Stage, cloud: AwsCloud) -> list[Row]:
    """200 nodes where AWS allows five calls a second, the first launch of a cluster: images, subnets, group included."""
    cloud.world.limit("*", burst=20, per_second=RATE)
    provider = stage.open(calls_per_second=RATE)
    offer = provider.offers(stage.pools[0])[0]
    requests = [stage.request(f"cpu-{n}", offer) for n in range(1, 201)]
    before = len(cloud.world.calls)
    seconds = timed(lambda: provider.create(requests))
    calls = len(cloud.world.calls) - before
    assert len(cloud.instances("pending", "running")) == 200
    provider.close()
    return [
        row("AWS: calls per node, 200 nodes", calls / 200, None, "", "calls", "<= 0.1"),
        row("AWS: 200 launches accepted, 5 calls/s", seconds, None, "", "s", "part of boot + 30 s"),
    ]


def _fall_back(stage: Stage, cloud: AwsCloud) -> list[Row]:
    """The first three offers have no capacity; planner and provisioner find the fourth."""
    for offer in stage.provisioner.offers()[:3]:
        cloud.world.capacity[f"{offer.instance_type}/{offer.zone}/{offer.market}"] = 0
    started = time.perf_counter()
    while not cloud.instances("pending", "running"):
        stage.want(1)
    seconds = time.perf_counter() - started
    return [row("AWS: past three offers without capacity", seconds, None, "ray up: never", "s", "<= 5")]


def _list(stage: Stage, cloud: AwsCloud) -> list[Row]:
    offer = stage.provider.offers(stage.pools[0])[0]
    made = stage.provider.create([stage.request(f"cpu-{n}", offer) for n in range(1, MANY + 1)])
    assert len(made) == MANY
    stage.provider.list()  # the stand-in serialises each instance once: not ours to measure
    command = [sys.executable, "-c", LOOK, stage.uid, cloud.url, REGION, str(stage.directory / "other")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, before, peak, complete, count = json.loads(done.stdout)
    assert complete and count == MANY
    return [
        row(f"AWS: one look at {MANY} instances", seconds, None, "", "s", "<= 5"),
        row(f"AWS: peak RSS of a process that looks at {MANY}", peak, None, "", "MB", ""),
        row("AWS: of it before the look (Python, boto3)", before, None, "", "MB", ""),
    ]


def _first_call() -> list[Row]:
    """From a job's submission to the RunInstances that it causes, through the real head."""
    with tempfile.TemporaryDirectory() as directory, AwsCloud() as cloud:
        cloud.world.boot_seconds = 3600.0  # each job needs an instance of its own, and none ever comes
        cluster = LocalCluster(
            Path(directory),
            f"cluster: bench\nprovider: {{aws: {{region: {REGION}, endpoint_url: '{cloud.url}', head_address: 127.0.0.1}}}}\n"
            f"engine: none\npools:\n  - {{name: cpu, instances: [t3.micro], max: {DEMANDS + 2}}}\n",
            "bench",
        )
        try:
            cluster.cli(
                "up", str(cluster.spec), "-y", "--timeout", "3s", code=None
            )  # the head's own node never comes either
            times = [_one_demand(cluster, cloud) for _ in range(DEMANDS)]
        finally:
            cluster.cli("down", "-y", code=None)
            cluster.clean_up()
    return [row("AWS: demand to first provider call, p95", percentile(times, 0.95), None, "", "s", "<= 1")]


def _one_demand(cluster: LocalCluster, cloud: AwsCloud) -> float:
    def launches() -> list[float]:
        return [at for at, action, _ in cloud.world.calls if action == "ec2:RunInstances"]

    before, wall = len(launches()), time.time() - time.monotonic()
    job = cluster.job(cluster.submit("--cpus", "2", "--", "true"))
    wait_until(lambda: len(launches()) > before, 30, "a launch")
    return launches()[before] - (float(job["submitted"]) - wall)
