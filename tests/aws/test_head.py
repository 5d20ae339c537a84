"""The head on an instance: a machine like every other, with a disk that outlives it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.aws.cluster import CloudHeadCluster
from tests.cloud.aws_cloud import AwsCloud, credentials
from tests.cloud.aws_machines import AwsMachines

POOL = "  - {name: cpu, instances: [t3.micro], min: 1, max: 3, idle_timeout: 60s}"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., CloudHeadCluster]]:
    clusters: list[CloudHeadCluster] = []
    with credentials(), AwsCloud("10.77.0.0/16", public=True) as cloud, AwsMachines(cloud) as machines:
        cloud.world.boot_seconds = 0.3

        def make(pools: str = POOL, where: str = "", more: str = "") -> CloudHeadCluster:
            clusters.append(CloudHeadCluster(tmp_path, cloud, machines, pools, where, more))
            return clusters[-1]

        yield make
        for cluster in clusters:
            cluster.clean_up()
        assert cloud.world.violations == []


def test_up_runs_the_head_on_an_instance_and_down_leaves_nothing(make: Callable[..., CloudHeadCluster]) -> None:
    cluster = make()
    cluster.up()
    job = cluster.submit("--cpus", "1", "--", "hostname")
    cluster.wait_job(job, "succeeded", 60)
    assert cluster.cli("logs", job).stdout.startswith("ip-10-77-")
    assert len(cluster.heads()) == 1
    cluster.down()
    assert cluster.cloud.leftovers() == [] and cluster.machines.machines.ids() == []
