"""Azure for the contract suite, and the parts that the other tests of the provider share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from clusterctl_providers.azure.provider import AzureProvider
from clusterctl_providers.base import PoolRequest, Provider

from clusterctl.core.errors import NoCapacity
from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.world import REGION, SUBSCRIPTION
from tests.contract.worlds import World
from tests.support.cluster import wait_until


class AzureWorld(World):
    provider_name = "azure"
    many = 120
    refusal = NoCapacity

    def __init__(self) -> None:
        super().__init__()
        self._stack = contextlib.ExitStack()
        self.cloud = self._stack.enter_context(AzureCloud())
        self._stack.enter_context(self.cloud.credentials())
        spec = {
            "instances": ["Standard_B2s"],
            "resources": {"CPU": 1},
            "market": ["on-demand"],
            "orphan_timeout": 900.0,
        }
        self.pool = PoolRequest("cpu", spec)

    def settings(self) -> dict[str, Any]:
        here = {"subscription": SUBSCRIPTION, "region": REGION, "endpoint_url": self.cloud.url}
        return {**here, "calls_per_second": 500.0, "head_address": "127.0.0.1"}

    @contextlib.contextmanager
    def refusing(self, provider: Provider, node_id: str) -> Iterator[Provider]:
        self.cloud.world.capacity["*/*/on-demand"] = 0
        yield provider
        del self.cloud.world.capacity["*/*/on-demand"]

    @contextlib.contextmanager
    def half_blind(self) -> Iterator[Provider]:
        """The second page of every list fails."""
        self.cloud.world.page_sizes["microsoft.compute/virtualmachines"] = 5
        provider = self.provider()
        self.create(provider, "cpu-3", "cpu-4", "cpu-5", "cpu-6", "cpu-7")
        fault = self.cloud.fault("virtualMachines.list", times=None, match="skiptoken")
        try:
            yield self.provider()
        finally:
            self.cloud.world.faults.remove(fault)

    def close(self) -> None:
        try:
            super().close()
            for uid in self._uids:
                provider = self.provider(uid)
                assert isinstance(provider, AzureProvider)
                wait_until(lambda provider=provider: provider.sweep() == [], what="nothing that has to wait")
                provider.close()
            assert self.cloud.leftovers() == []
            assert self.cloud.world.violations == []
        finally:
            self._stack.close()
