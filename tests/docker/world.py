"""The Docker provider for the contract suite. Its engine is the one of DOCKER_HOST, which the fixture has set."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from clusterctl_providers.base import HasLeftovers, Provider

from clusterctl.core.errors import BadRequest
from tests.contract.worlds import World
from tests.support.docker_engine import DockerEngine, base_image, client_of

SLEEPER = ["python3", "-S", "-c", "import time; time.sleep(600)"]


class DockerWorld(World):
    provider_name = "docker"
    refusal = BadRequest

    def __init__(self) -> None:
        super().__init__()
        host = os.environ["DOCKER_HOST"]
        self.client = client_of(host)
        self.image = base_image(DockerEngine(host, self.client))

    def settings(self) -> dict[str, Any]:
        return {"image": self.image, "agent_argv": SLEEPER, "grace": 1.0}

    @contextlib.contextmanager
    def refusing(self, provider: Provider, node_id: str) -> Iterator[Provider]:
        yield self.open({**self.settings(), "image": "clusterctl-test/nowhere:1"})

    @contextlib.contextmanager
    def half_blind(self) -> Iterator[Provider]:
        yield self.open({**self.settings(), "host": "unix:///nowhere/docker.sock"})

    def close(self) -> None:
        uids = set(self._uids)
        super().close()
        for uid in uids:
            provider = self.provider(uid)
            assert isinstance(provider, HasLeftovers)
            assert provider.sweep() == []
            provider.close()
        self.client.close()
