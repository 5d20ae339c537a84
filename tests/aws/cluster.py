"""A cluster whose nodes are instances of the stand-in for AWS, each a real machine; its head daemon runs here."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from clusterctl.client import headprocess
from clusterctl.client.launch import SpecFile, write_files
from clusterctl.client.private import write_private
from clusterctl.client.registry import Cluster, Registry
from clusterctl.spec.load import parse_located
from tests.cloud.aws_cloud import REGION, AwsCloud
from tests.cloud.aws_machines import AwsMachines
from tests.support.cluster import LocalCluster

GATEWAY = "10.77.0.1"


class AwsCluster(LocalCluster):
    """`pools` is the YAML text below `pools:`."""

    def __init__(
        self, directory: Path, cloud: AwsCloud, machines: AwsMachines, pools: str, more: str = "engine: none"
    ) -> None:
        self.cloud, self.machines = cloud, machines
        spec = f"""\
cluster: demo
provider: {{aws: {{region: {REGION}, vpc: {cloud.vpc}, endpoint_url: "{cloud.url}", calls_per_second: 50}}}}
head: {{instance: t3.large}}
{more}
pools:
{pools}
"""
        super().__init__(directory, spec)

    def up(self, timeout: float = 120) -> None:
        """What `up` does for a head on this machine, with the address that the cloud's machines reach."""
        text = self.spec.read_text()
        spec, located = parse_located(text, str(self.spec))
        os.environ["CLUSTERCTL_HOME"] = str(self.home)
        try:
            cluster = Registry(self.home).create("demo", provider="aws", engine="none", spec_path=str(self.spec))
            write_files(cluster, SpecFile(self.spec, text, spec, located))
            path = cluster.head_dir / "config.json"
            config: dict[str, Any] = json.loads(path.read_text())
            config |= {"agent_listen": GATEWAY, "agent_host": GATEWAY}
            write_private(path, json.dumps(config))
            headprocess.start(cluster)
            self.cluster: Cluster = cluster
        finally:
            os.environ.pop("CLUSTERCTL_HOME", None)

    def consoles(self) -> str:
        return "\n".join(f"--- {i}\n{self.machines.machines.console(i)}" for i in self.machines.machines.ids())
