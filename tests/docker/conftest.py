from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.base import TAG_NODE, TAG_UID

from tests.support.cluster import LocalCluster
from tests.support.docker_engine import DockerEngine, base_image, docker_engine, remove_labelled

__all__ = ["docker_engine"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first run ever makes the hosts' image, which takes a minute or two."""
    for item in items:
        if "docker_engine" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(600))


class DockerCluster(LocalCluster):
    """A cluster whose nodes are containers."""

    def __init__(self, directory: Path, spec: str, engine: DockerEngine) -> None:
        super().__init__(directory, spec)
        self.engine = engine

    @property
    def uid(self) -> str:
        return json.loads((self.home / "clusters" / self.name / "cluster.json").read_text())["uid"]

    def containers(self, node_id: str = "") -> list[Any]:
        """Of the cluster, whatever their state; of one node when it is named."""
        label = f"{TAG_NODE}={node_id}" if node_id else TAG_NODE
        wanted: dict[str, Any] = {"label": [f"{TAG_UID}={self.uid}", label]}
        return self.engine.client.containers.list(all=True, filters=wanted, ignore_removed=True)

    def clean_up(self) -> None:
        label = self.home / "clusters" / self.name / "cluster.json"
        uid = self.uid if label.exists() else ""
        super().clean_up()
        if uid:
            remove_labelled(self.engine.client, f"{TAG_UID}={uid}")


@pytest.fixture(scope="session")
def image(docker_engine: DockerEngine) -> str:
    return base_image(docker_engine)


@pytest.fixture(scope="module")
def make_cluster(
    docker_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., DockerCluster]]:
    """Makes clusters of containers; whatever happens, nothing of them is left."""
    made: list[DockerCluster] = []

    def make(spec: str, *, up: bool = True) -> DockerCluster:
        cluster = DockerCluster(tmp_path_factory.mktemp("docker"), spec, docker_engine)
        made.append(cluster)
        if up:
            cluster.up()
        return cluster

    yield make
    for cluster in made:
        cluster.clean_up()
