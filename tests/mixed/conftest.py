"""Clusters with pools of two providers: processes of this machine, and machines of a rehearsed cloud that boot real agents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cluster import LocalCluster

CPU = "  - {name: cpu, min: 1, max: 2, resources: {CPU: 1}}\n"
FAR = "  - {name: far, min: 1, max: 2, idle_timeout: 1s, provider: {fake: {boot: local, types: {small: {CPU: 1, price: 0.1}}}}}\n"


def spec(*pools: str, engine: str = "none") -> str:
    return f"cluster: demo\nprovider: local\nengine: {engine}\npools:\n{''.join(pools)}"


@pytest.fixture
def cluster_of(tmp_path: Path) -> Iterator[Callable[[str], LocalCluster]]:
    made: list[LocalCluster] = []

    def make(text: str) -> LocalCluster:
        made.append(LocalCluster(tmp_path, text))
        return made[-1]

    yield make
    for cluster in made:
        cluster.clean_up()
        assert not cluster.processes()
