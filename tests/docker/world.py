"""The Docker provider for the contract suite. Its engine is the one of DOCKER_HOST, which the fixture has set."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from clusterctl_providers.base import TAG_UID, Provider
from clusterctl_providers.docker.provider import DockerProvider

from clusterctl.core.errors import BadRequest
from tests.contract.worlds import World
from tests.support.docker_engine import DockerEngine, base_image, client_of, remove_labelled

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
        return {"image": self.image}

    def given(self) -> dict[str, Any]:
        return {"agent_argv": SLEEPER}

    @contextlib.contextmanager
    def refusing(self, provider: Provider, node_id: str) -> Iterator[Provider]:
        yield self.open({**self.settings(), "image": "127.0.0.1:1/clusterctl-test/nowhere:1"})

    @contextlib.contextmanager
    def half_blind(self) -> Iterator[Provider]:
        yield self.open({**self.settings(), "host": "unix:///nowhere/docker.sock"})

    def open(self, settings: dict[str, Any], uid: str = "", **given: Any) -> Provider:
        self._uids.add(uid or self.uid)
        provider = super().open(settings, uid, **given)
        assert isinstance(provider, DockerProvider)
        provider.grace = 1.0
        return provider

    def close(self) -> None:
        uids = self._uids - {""}
        try:
            super().close()
        finally:
            for uid in uids:
                remove_labelled(self.client, f"{TAG_UID}={uid}")
            self.client.close()
