"""What is around a cluster's machines, without a provider over it: its calls, its network, and an administrator's view."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.network.network import Network
from clusterctl_providers.base import HeadMachine

from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.world import REGION, SUBSCRIPTION


class Parts:
    def __init__(self, cloud: AzureCloud, cluster: str = "demo", **settings: Any) -> None:
        self.cloud, self.cluster, self.uid = cloud, cluster, str(uuid.uuid4())
        self.settings = {
            "subscription": SUBSCRIPTION,
            "region": REGION,
            "endpoint_url": cloud.url,
            "calls_per_second": 500.0,
            **settings,
        }
        self.calls = Calls(self.settings, pause=lambda _: None)
        self.now = 0.0

    def network(
        self, ssh_from: Sequence[str] | None = None, head: HeadMachine | None = None, **settings: Any
    ) -> Network:
        """As a process of its own has it: nothing is remembered of earlier ones."""
        settings = {**self.settings, **settings}
        calls = Calls(settings, pause=lambda _: None)
        return Network(calls, settings, self.cluster, self.uid, ssh_from, head, clock=lambda: self.now)

    def make(self, path: str, body: dict[str, Any], group: str = "corp") -> str:
        """Something of the user's: `path` as in Microsoft.Network/virtualNetworks/v. Returns its id."""
        group_path = self.calls.path(group=group)
        if group == "corp":
            self.calls.ask("PUT", group_path, "making a group", {"location": REGION})
        self.calls.run("PUT", f"{group_path}/providers/{path}", "making", {"location": REGION, **body})
        return f"{group_path}/providers/{path}"

    def make_network(self, name: str, *subnets: dict[str, Any], space: str = "10.50.0.0/16", **more: Any) -> str:
        """Each subnet is {"name": ..., and the members of its properties}."""
        rows = [{"name": s["name"], "properties": {k: v for k, v in s.items() if k != "name"}} for s in subnets]
        properties = {"addressSpace": {"addressPrefixes": [space]}, "subnets": rows}
        return self.make(f"Microsoft.Network/virtualNetworks/{name}", {"properties": properties, **more})

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """All of a type of the subscription: as in Microsoft.Network/natGateways."""
        return self.calls.list(self.calls.path(kind), "looking")

    def rules(self) -> dict[str, dict[str, Any]]:
        """Rules of the cluster's network security group, by the last part of their names."""
        (group,) = self.rows("Microsoft.Network/networkSecurityGroups")
        return {row["name"].rpartition("-")[2]: row["properties"] for row in group["properties"]["securityRules"]}

    def changes(self, since: int = 0) -> list[str]:
        """Operations that changed something."""
        words = ("createOrUpdate", "update", "delete")
        return [name for name in self.cloud.world.operations(since) if name.rpartition(".")[2] in words]
