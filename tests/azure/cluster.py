"""Clusters of VMs of the stand-in for Azure, each a real machine; their head daemon runs here, or there."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.machine import Machine
from tests.cloud.azure.machines import AzureMachines
from tests.cloud.azure.world import REGION, SUBSCRIPTION
from tests.cloud.machines import GATEWAY
from tests.support.cluster import LocalCluster, with_packages

HEAD = "Standard_B2s_v2"


class AzureCluster(LocalCluster):
    """`pools` is the YAML text below `pools:`, `where` says where the head runs, `network` where the machines are: "" for one of
    the cluster's own, where this host's machines are."""

    def __init__(
        self,
        directory: Path,
        cloud: AzureCloud,
        machines: AzureMachines,
        pools: str,
        more: str = "engine: none",
        where: str = f"head_address: {GATEWAY}",
        network: str = "",
    ) -> None:
        self.cloud, self.machines = cloud, machines
        network = network or f"address_space: {machines.machines.gateway.network}"
        spec = f"""\
cluster: demo
provider:
  azure:
    subscription: {SUBSCRIPTION}
    region: {REGION}
    endpoint_url: "{cloud.url}"
    {network}
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

    def vms(self) -> list[Machine]:
        """Those that cost money."""
        return [m for m in self.cloud.machines() if m.power != "deallocated"]


class CloudHeadCluster(AzureCluster):
    """Its head runs on a VM."""

    def __init__(
        self, directory: Path, cloud: AzureCloud, machines: AzureMachines, pools: str, where: str = "", more: str = "",
        network: str = "",
    ) -> None:  # fmt: skip
        reached = where or f'reach: public\n    ssh_from: ["{GATEWAY}"]'
        super().__init__(directory, cloud, machines, pools, more or "engine: none", reached, network)

    @property
    def home_of_it(self) -> Path:
        """The cluster's directory on this machine."""
        return self.home / "clusters" / self.name

    def heads(self) -> list[Machine]:
        """The VMs that are to be its head."""
        return [m for m in self.cloud.machines() if m.size.name == HEAD]

    def disks(self) -> list[dict[str, Any]]:
        """Those that outlive their machine."""
        with self.cloud.world.lock:
            disks = self.cloud.store.of_type("Microsoft.Compute/disks")
            return [disk for disk in disks if (disk.get("tags") or {}).get("clusterctl-disk") == "head"]

    def address(self) -> str:
        """That of the card which is kept for the head."""
        with self.cloud.world.lock:
            cards = self.cloud.store.of_type("Microsoft.Network/networkInterfaces")
            (card,) = [c for c in cards if (c.get("tags") or {}).get("clusterctl-head") == "address"]
            return str(card["properties"]["ipConfigurations"][0]["properties"]["privateIPAddress"])

    def ssh_sources(self) -> list[str]:
        """Who may reach port 22 of the head."""
        with self.cloud.world.lock:
            rules = self.cloud.store.of_type("Microsoft.Network/networkSecurityGroups/securityRules")
            return sorted(s for rule in rules for s in rule["properties"].get("sourceAddressPrefixes") or ())

    def delete(self, machine: Machine) -> None:
        """Behind the back of clusterctl, as its owner does it in Azure's portal."""
        self.cloud.vanish(machine.name)

    def on_head(self, *argv: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """A command on the head's machine, as its user has it."""
        (node,) = [node["id"] for node in self.status()["nodes"] if node["pool"] == "head"]
        return self.cli("exec", node, "--", *argv, code=code)

    def as_root(self, script: str) -> str:
        """The same behind the back of clusterctl."""
        key = self.home_of_it / "ssh" / "id_ed25519"
        plain = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        argv = ["ssh", "-F", "none", *plain, "-i", str(key), "-o", "IdentitiesOnly=yes"]
        return subprocess.run(
            [*argv, f"ubuntu@{self.address()}", "sudo", "bash"], input=script, capture_output=True, text=True, check=True,
            timeout=120,
        ).stdout  # fmt: skip

    def head_log(self, size: int = 3000) -> str:
        return self.consoles()[-size:]
