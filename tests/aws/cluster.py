"""A cluster whose nodes are instances of the stand-in for AWS, each a real machine; its head daemon runs here."""

from __future__ import annotations

from pathlib import Path

from tests.cloud.aws_cloud import REGION, AwsCloud
from tests.cloud.aws_machines import AwsMachines
from tests.support.cluster import LocalCluster

GATEWAY = "10.77.0.1"  # of the machines' network: this host, as they see it


class AwsCluster(LocalCluster):
    """`pools` is the YAML text below `pools:`."""

    def __init__(
        self, directory: Path, cloud: AwsCloud, machines: AwsMachines, pools: str, more: str = "engine: none"
    ) -> None:
        self.cloud, self.machines = cloud, machines
        spec = f"""\
cluster: demo
provider:
  aws:
    region: {REGION}
    vpc: {cloud.vpc}
    endpoint_url: "{cloud.url}"
    head_address: {GATEWAY}
    calls_per_second: 50
head: {{instance: t3.large}}
{more}
pools:
{pools}
"""
        super().__init__(directory, spec)

    def consoles(self) -> str:
        return "\n".join(f"--- {i}\n{self.machines.machines.console(i)}" for i in self.machines.machines.ids())
