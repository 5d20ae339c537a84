from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cluster import LocalCluster

PLAIN = """\
cluster: demo
provider: local
engine: none
pools:
  - {name: cpu, min: 0, max: 3, resources: {CPU: 2}, idle_timeout: 2s}
  - {name: gpu, min: 0, max: 2, resources: {CPU: 1, GPU: 2}, idle_timeout: 2s}
"""


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[Callable[..., LocalCluster]]:
    """Makes clusters of the local provider; whatever happens, nothing of them is left."""
    made: list[LocalCluster] = []

    def make(spec: str = PLAIN, *, up: bool = True) -> LocalCluster:
        directory = tmp_path / f"c{len(made)}"
        directory.mkdir()
        cluster = LocalCluster(directory, spec)
        made.append(cluster)
        if up:
            cluster.up()
        return cluster

    yield make
    for cluster in made:
        cluster.clean_up()


@pytest.fixture
def cluster(make_cluster: Callable[..., LocalCluster]) -> LocalCluster:
    """A plain cluster (no engine) that is up, with no workers."""
    return make_cluster()
