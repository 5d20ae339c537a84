"""AWS, simulated over real HTTP: calls per node, the way past missing capacity, and one look at 2,000 instances."""

from __future__ import annotations

import tempfile
import time
import tracemalloc
from pathlib import Path

from tests.aws.stage import BOTH, Stage, pool
from tests.bench.rows import Row, row, timed
from tests.cloud.aws_cloud import AwsCloud, credentials
from tests.support.cluster import wait_until

MANY = 2000


def run() -> list[Row]:
    rows: list[Row] = []
    with credentials():
        for measure in (_launches, _fall_back, _first_call, _list, _join):
            with tempfile.TemporaryDirectory() as directory, AwsCloud() as cloud:
                stage = Stage(Path(directory), cloud, [pool(market=BOTH)])
                rows += measure(stage, cloud)
                stage.close()
    return rows


def _launches(stage: Stage, cloud: AwsCloud) -> list[Row]:
    """200 nodes at five calls a second, the first launch of a cluster: images, subnets and group included."""
    provider = stage.open(calls_per_second=5)
    offer = provider.offers(stage.pools[0])[0]
    requests = [stage.request(f"cpu-{n}", offer) for n in range(1, 201)]
    before = len(cloud.world.calls)
    seconds = timed(lambda: provider.create(requests))
    calls = len(cloud.world.calls) - before
    assert len(cloud.instances("pending", "running")) == 200
    provider.close()
    return [
        row(
            "AWS: calls per node, 200 nodes",
            calls / 200,
            None,
            "",
            "calls",
            "<= 0.1",
        ),
        row("AWS: 200 launches accepted, 5 calls/s", seconds, None, "", "s", "<= 30 s after one boot"),
    ]


def _fall_back(stage: Stage, cloud: AwsCloud) -> list[Row]:
    """The first three offers have no capacity; planner and provisioner find the fourth."""
    for offer in stage.provisioner.offers()[:3]:
        cloud.world.capacity[f"{offer.instance_type}/{offer.zone}/{offer.market}"] = 0
    started = time.perf_counter()
    while not cloud.instances("pending", "running"):
        stage.want(1)
    return [
        row(
            "AWS: past three offers without capacity",
            time.perf_counter() - started,
            None,
            "ray up: never",
            "s",
            "<= 5",
        )
    ]


def _first_call(stage: Stage, cloud: AwsCloud) -> list[Row]:
    """From demand to the first RunInstances on the wire: one turn of the loop, over twenty demands."""
    times: list[float] = []
    stage.want(1)
    for jobs in range(1, 21):
        started = time.monotonic()
        stage.want(2 * jobs + 2)
        launches = [at for at, action, _ in cloud.world.calls if action == "ec2:RunInstances" and at >= started]
        if launches:
            times.append(launches[0] - started)
    times.sort()
    worst = times[int(0.95 * (len(times) - 1))]
    return [row("AWS: demand to first provider call, p95", worst, None, "", "s", "<= 1")]


def _list(stage: Stage, cloud: AwsCloud) -> list[Row]:
    offer = stage.provider.offers(stage.pools[0])[0]
    made = stage.provider.create([stage.request(f"cpu-{n}", offer) for n in range(1, MANY + 1)])
    assert len(made) == MANY
    provider = stage.open()
    provider.list()  # the stand-in serialises each instance once: not ours to measure
    started = time.perf_counter()
    (scope,) = provider.list()
    seconds = time.perf_counter() - started
    tracemalloc.start()
    provider.list()
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    assert scope.complete and len({i.node_id for i in scope.instances}) == MANY
    provider.close()
    return [
        row(f"AWS: one look at {MANY} instances", seconds, None, "", "s", "<= 5"),
        row(f"AWS: memory that it takes, the stand-in's answer included, {MANY} instances", peak, None, "", "MB", ""),
    ]


def _join(stage: Stage, cloud: AwsCloud) -> list[Row]:
    """Real machines: how long after the last one runs its nodes take work. The launch and the pretended boot (2 s) are
    in front of it; the machines share this one's processors."""
    from tests.aws.cluster import AwsCluster
    from tests.cloud.aws_machines import AwsMachines

    rows: list[Row] = []
    for count, goal in ((1, "boot + 5 s"), (10, "50 nodes: boot + 15 s")):
        with (
            tempfile.TemporaryDirectory() as directory,
            AwsCloud("10.77.0.0/16") as place,
            AwsMachines(place) as machines,
        ):
            place.world.boot_seconds = 2.0
            pools = f"  - {{name: cpu, instances: [t3.micro], min: {count}, max: {count}, idle_timeout: 1h}}"
            cluster = AwsCluster(Path(directory), place, machines, pools)
            try:
                cluster.up()
                wait_until(lambda c=cluster, n=count: len(c.ready_nodes()) == n, 120, f"{count} nodes")
                joined = time.monotonic()
                asked = [at for at, action, _ in place.world.calls if action == "ec2:RunInstances"]
                rows.append(
                    row(
                        f"AWS: {count} nodes joined after launch and boot",
                        joined - asked[-1] - 2.0,
                        None,
                        "",
                        "s",
                        goal,
                    )
                )
            finally:
                cluster.clean_up()
    return rows
