"""What is around a cluster's instances, without a provider over it: its calls, its network, and an administrator's view."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from clusterctl_providers.base import HeadMachine
from clusterctl_providers.gcp.calls import Calls
from clusterctl_providers.gcp.network.network import Network

from tests.cloud.gcp.cloud import GcpCloud
from tests.cloud.gcp.world import PROJECT, REGION


class Parts:
    def __init__(self, cloud: GcpCloud, cluster: str = "demo", **settings: Any) -> None:
        self.cloud, self.cluster, self.uid = cloud, cluster, str(uuid.uuid4())
        self.settings = {
            "project": PROJECT,
            "region": REGION,
            "endpoint_url": cloud.url,
            "calls_per_second": 500.0,
            **settings,
        }
        self.calls = Calls(self.settings)
        self.now = 0.0

    def network(
        self, ssh_from: Sequence[str] | None = None, head: HeadMachine | None = None, **settings: Any
    ) -> Network:
        """As a process of its own has it: nothing is remembered of earlier ones."""
        settings = {**self.settings, **settings}
        return Network(Calls(settings), settings, self.cluster, self.uid, ssh_from, head, clock=lambda: self.now)

    def rows(self, path: str) -> list[dict[str, Any]]:
        return [row for page in self.calls.pages(path, "looking") for row in page.get("items") or ()]

    def rules(self) -> dict[str, dict[str, Any]]:
        """The firewall rules of the project by the last part of their names."""
        return {row["name"].rpartition("-")[2]: row for row in self.rows("global/firewalls")}

    def methods(self, word: str) -> list[str]:
        """Those called so far whose name contains `word`."""
        return [action for action in self.cloud.world.actions() if word in action]
