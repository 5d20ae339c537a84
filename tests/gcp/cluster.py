"""Clusters of instances of the stand-in for Google Cloud, each a real machine; their head daemon runs here, or there."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from tests.cloud.gcp.cloud import GcpCloud
from tests.cloud.gcp.machines import GcpMachines
from tests.cloud.gcp.world import PROJECT, REGION
from tests.cloud.machines import GATEWAY
from tests.support.cluster import LocalCluster, with_packages

HEAD = "e2-standard-2"


class GcpCluster(LocalCluster):
    """`pools` is the YAML text below `pools:`, `where` says where the head runs."""

    def __init__(
        self,
        directory: Path,
        cloud: GcpCloud,
        machines: GcpMachines,
        pools: str,
        more: str = "engine: none",
        where: str = f"head_address: {GATEWAY}",
    ) -> None:
        self.cloud, self.machines = cloud, machines
        spec = f"""\
cluster: demo
provider:
  gcp:
    project: {PROJECT}
    region: {REGION}
    endpoint_url: "{cloud.url}"
    {where}
    calls_per_second: 100
head: {{instance: {HEAD}}}
{more}
pools:
{pools}
"""
        super().__init__(directory, spec)
        with_packages(self.home)

    def consoles(self) -> str:
        return "\n".join(f"--- {i}\n{self.machines.machines.console(i)}" for i in self.machines.machines.ids())


class CloudHeadCluster(GcpCluster):
    """Its head runs on an instance."""

    def __init__(
        self, directory: Path, cloud: GcpCloud, machines: GcpMachines, pools: str, where: str = "", more: str = ""
    ) -> None:
        reached = f'{where or "reach: public"}\n    ssh_from: ["{GATEWAY}"]'
        super().__init__(directory, cloud, machines, pools, more or "engine: none", reached)

    @property
    def home_of_it(self) -> Path:
        """The cluster's directory on this machine."""
        return self.home / "clusters" / self.name

    def heads(self) -> list[Any]:
        """The instances that are to be its head, those that cost money."""
        return [i for i in self.cloud.instances() if i.type == HEAD]

    def disks(self) -> list[dict[str, Any]]:
        """Those that outlive their machine."""
        disks = self.cloud.compute.store.every("disks")
        return [disk for disk in disks if disk.get("labels", {}).get("clusterctl-disk") == "head"]

    def address(self) -> str:
        """What is reserved for the head."""
        (address,) = self.cloud.compute.store.every("addresses")
        return str(address["address"])

    def ssh_sources(self) -> list[str]:
        """Who may reach port 22 of the head."""
        rules = self.cloud.compute.store.every("firewalls")
        return sorted(source for rule in rules for source in rule.get("sourceRanges", []))

    def delete(self, instance: Any) -> None:
        """Behind the back of clusterctl, as its owner does it in Google's console."""
        client = self.cloud.client("compute", "v1")
        client.instances().delete(project=PROJECT, zone=instance.zone, instance=instance.name).execute()

    def on_head(self, *argv: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """A command on the head's machine, as its user has it."""
        (node,) = [node["id"] for node in self.status()["nodes"] if node["pool"] == "head"]
        return self.cli("exec", node, "--", *argv, code=code)

    def as_root(self, script: str) -> str:
        """The same behind the back of clusterctl."""
        key = self.home_of_it / "ssh" / "id_ed25519"
        plain = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        argv = ["ssh", "-F", "none", *plain, "-i", str(key), "-o", "IdentitiesOnly=yes"]
        login = f"ubuntu@{self.heads()[0].address}"
        return subprocess.run(
            [*argv, login, "sudo", "bash"], input=script, capture_output=True, text=True, check=True, timeout=120
        ).stdout

    def head_log(self, size: int = 3000) -> str:
        return self.consoles()[-size:]
