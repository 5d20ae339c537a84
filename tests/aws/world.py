"""AWS for the contract suite, and the parts that the other tests of the provider share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from clusterctl_providers.aws.provider import AwsProvider
from clusterctl_providers.base import PoolRequest, Provider

from clusterctl.core.errors import NoCapacity
from tests.cloud.aws.cloud import REGION, AwsCloud, credentials
from tests.contract.worlds import World


class AwsWorld(World):
    provider_name = "aws"
    many = 120  # three launches
    refusal = NoCapacity

    def __init__(self) -> None:
        super().__init__()
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(credentials())
        self.cloud = self._stack.enter_context(AwsCloud())
        spec = {"instances": ["t3.micro"], "resources": {"CPU": 1}, "market": ["on-demand"], "orphan_timeout": 900.0}
        self.pool = PoolRequest("cpu", spec)

    def settings(self) -> dict[str, Any]:
        return {"region": REGION, "endpoint_url": self.cloud.url, "calls_per_second": 500.0}

    @contextlib.contextmanager
    def refusing(self, provider: Provider, node_id: str) -> Iterator[Provider]:
        self.cloud.world.capacity["*/*/on-demand"] = 0
        yield provider
        del self.cloud.world.capacity["*/*/on-demand"]

    @contextlib.contextmanager
    def half_blind(self) -> Iterator[Provider]:
        """The second page of every list fails."""
        self.cloud.world.page_size = 5
        provider = self.provider()
        self.create(provider, "cpu-3")
        self.create(provider, "cpu-4")
        self.create(provider, "cpu-5")
        self.create(provider, "cpu-6")
        self.create(provider, "cpu-7")
        fault = self.cloud.fault("DescribeInstances", times=None, match="NextToken")
        try:
            yield self.provider()
        finally:
            self.cloud.world.faults.remove(fault)

    def close(self) -> None:
        try:
            super().close()
            for uid in self._uids:
                provider = self.provider(uid)
                assert isinstance(provider, AwsProvider) and provider.sweep() == []
                provider.close()
            assert self.cloud.leftovers() == []
            assert self.cloud.world.violations == []
        finally:
            self._stack.close()
