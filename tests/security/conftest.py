"""One plain cluster for all tests that only knock at its doors, and the means to knock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.security.knocking import Api
from tests.support.cluster import LocalCluster

SPEC = """\
cluster: demo
provider: local
engine: none
pools:
  - {name: cpu, min: 1, max: 2, resources: {CPU: 8}, idle_timeout: 10m}
"""


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A head and one worker of the local provider."""
    running = LocalCluster(tmp_path_factory.mktemp("guarded"), SPEC)
    try:
        running.up()
        yield running
    finally:
        running.clean_up()


@pytest.fixture
def api(cluster: LocalCluster) -> Api:
    return Api(cluster)


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[Callable[..., LocalCluster]]:
    """Makes clusters that a test may maltreat; `prepare(cluster)` is called before `up`."""
    made: list[LocalCluster] = []

    def make(spec: str = SPEC, prepare: Callable[[LocalCluster], object] = lambda _: None) -> LocalCluster:
        directory = tmp_path / f"c{len(made)}"
        directory.mkdir()
        cluster = LocalCluster(directory, spec)
        made.append(cluster)
        prepare(cluster)
        cluster.up()
        return cluster

    yield make
    for cluster in made:
        cluster.clean_up()
