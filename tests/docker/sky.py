"""The sky of the crash suite over Docker: containers that run nothing but a sleep, and calls to the engine to die at."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from clusterctl_providers.base import TAG_NODE, TAG_UID, ProviderContext
from clusterctl_providers.docker.provider import DockerProvider

from tests.crash.stage import UID, Fuse, MiniHead
from tests.crash.story import RealSky, brittle
from tests.docker.world import SLEEPER
from tests.support.docker_engine import client_of

CALLS = ("put_archive", "start", "wait", "stop", "kill", "remove_container")


class DockerSky(RealSky):
    spec: ClassVar[Mapping[str, Any]] = {"resources": {"CPU": 1, "memory": 64 * 2**20}}

    def __init__(self, directory: Path, image: str) -> None:
        super().__init__(directory)
        self._image = image

    def provider(self) -> DockerProvider:
        state, settings = str(self.directory / "state"), {"image": self._image}
        provider = DockerProvider(ProviderContext("demo", UID, state, settings, agent_argv=SLEEPER))
        provider.grace = 1.0
        return provider

    def remains(self) -> list[str]:
        client = client_of(os.environ["DOCKER_HOST"])
        wanted: dict[str, Any] = {"label": f"{TAG_UID}={UID}"}
        left = [*client.containers.list(all=True, filters=wanted), *client.networks.list(filters=wanted)]
        client.close()
        return [str(thing.name) for thing in left]

    def arm(self, head: MiniHead, fuse: Fuse) -> None:
        provider = head.provider.inner
        assert isinstance(provider, DockerProvider)
        api = provider._engine.api
        inspect = api.inspect_container

        def whose(container: str, *_: Any, **__: Any) -> str:
            labels = inspect(container)["Config"]["Labels"]
            return "of a node" if TAG_NODE in labels else "of the look into the image"

        def made(*_: Any, **arguments: Any) -> str:
            return "of a node" if TAG_NODE in arguments["labels"] else "of the look into the image"

        for name in CALLS:
            setattr(api, name, brittle(getattr(api, name), name, fuse, whose))
        for name in ("create_network", "remove_network"):
            setattr(api, name, brittle(getattr(api, name), name, fuse))
        api.create_container = brittle(api.create_container, "create_container", fuse, made)
