"""A cluster that may be anywhere, to its end: the first cloud lacks the machines, in the second they are real, and jobs run there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.any_cloud.anywhere import AWS, GOOGLE
from tests.cloud.aws import cloud as aws
from tests.cloud.gcp.cloud import GcpCloud
from tests.cloud.gcp.machines import GcpMachines
from tests.cloud.gcp.world import PROJECT, REGION
from tests.cloud.machines import CIDR, GATEWAY
from tests.support.cluster import LocalCluster

SPEC = """\
cluster: demo
provider:
  - aws: {{region: {amazon}, vpc: {vpc}, endpoint_url: "{aws}", calls_per_second: 100, ssh_from: ["{gateway}"]}}
  - gcp: {{project: {project}, region: {google}, endpoint_url: "{gcp}", calls_per_second: 100, ssh_from: ["{gateway}"]}}
engine: none
head: {{instance: {{aws: t3.large, gcp: e2-standard-2}}}}
pools: [{{name: cpu, instances: {{aws: [t3.micro], gcp: [e2-medium]}}, min: 1, max: 2, idle_timeout: 30m}}]
"""


@pytest.fixture
def anywhere(tmp_path: Path) -> Iterator[tuple[LocalCluster, aws.AwsCloud, GcpCloud]]:
    with (
        aws.credentials(),
        aws.AwsCloud("127.77.0.0/16") as amazon,
        GcpCloud(CIDR) as google,
        google.credentials(),
        GcpMachines(google),
    ):
        google.world.boot_seconds = 0.3
        urls = {"aws": amazon.url, "gcp": google.url, "vpc": amazon.vpc, "gateway": GATEWAY}
        spec = SPEC.format(amazon=aws.REGION, google=REGION, project=PROJECT, **urls)
        cluster = LocalCluster(tmp_path, spec)
        yield cluster, amazon, google
        cluster.clean_up()


def test_a_cluster_runs_in_the_first_cloud_that_has_its_machines_and_stays_there(
    anywhere: tuple[LocalCluster, aws.AwsCloud, GcpCloud],
) -> None:
    cluster, amazon, google = anywhere
    amazon.world.capacity["t3.micro/*/*"] = 0
    up = json.loads(cluster.cli("up", str(cluster.spec), "--json").stdout)
    assert up["place"] == GOOGLE and [one["place"] for one in up["passed_over"]] == [AWS]
    assert amazon.leftovers() == [], "all of it was removed before the next was tried"
    assert amazon.world.actions().count("ec2:RunInstances") > 1, "the head was had, and the workers were not"
    cluster.wait_job(cluster.submit("--cpus", "1", "--", "hostname"), "succeeded")

    amazon.world.capacity.clear()
    before = len(amazon.world.calls)
    again = json.loads(cluster.cli("up", str(cluster.spec), "--json").stdout)
    assert (again["place"], again["head"], again["uid"]) == (GOOGLE, "running", up["uid"])
    assert len(amazon.world.calls) == before, "nobody looks elsewhere any more"
    text = cluster.spec.read_text()
    cluster.spec.write_text(text.replace("max: 2", "max: 3"))
    cluster.up()
    assert cluster.status()["pools"][0]["max"] == 3, "a changed spec is put in force where the cluster is"
    cluster.down()
    assert google.leftovers() == [] == amazon.leftovers()
