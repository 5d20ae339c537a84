"""Machines whose clocks are wrong by ten minutes: they join over TLS, keep their leases and do their work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.aws.cluster import AwsCluster
from tests.cloud.aws.cloud import AwsCloud, credentials
from tests.cloud.aws.machines import AwsMachines
from tests.cloud.machines import CIDR

POOL = "  - {name: cpu, instances: [t3.micro], max: 2, idle_timeout: 1h, orphan_timeout: 30s}"


@pytest.mark.parametrize("offset", [600, -600])
def test_a_machine_whose_clock_is_ten_minutes_off_does_its_work(tmp_path: Path, offset: int) -> None:
    with credentials(), AwsCloud(CIDR) as cloud, AwsMachines(cloud) as machines:
        machines.clock_of = lambda instance: offset
        cluster = AwsCluster(tmp_path, cloud, machines, POOL)
        try:
            cluster.up()
            # The clock is a library's, in the agent's environment, which jobs do not inherit.
            script = "import os; print(open(f'/proc/{os.getppid()}/environ').read().replace(chr(0), chr(10)))"
            job = cluster.submit("--cpus", "1", "--", "python3", "-c", script)
            done = cluster.wait_job(job, "succeeded")
            assert len(done["attempts"]) == 1
            assert f"CLOCK_OFFSET={offset}\n" in cluster.cli("logs", job).stdout, "the agent's clock is wrong"
            cluster.wait_job(cluster.submit("--cpus", "1", "--", "true"), "succeeded")
            assert len(cluster.ready_nodes()) == 1, "the same node, never taken for lost"
        finally:
            cluster.clean_up()
