"""Real hosts with sshd, and clusters on them that are driven through the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ssh.cluster import SshCluster
from tests.support.docker_engine import DockerEngine
from tests.support.docker_engine import docker_engine as docker_engine
from tests.support.ssh_hosts import SshHost, SshHosts


@pytest.fixture(scope="module")
def hosts(docker_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[SshHost]]:
    """Three hosts for a module; each test leaves them as it found them."""
    with SshHosts(docker_engine, tmp_path_factory.mktemp("keys")) as made:
        yield made.start(3, cap_add=["NET_ADMIN"])  # for routes that lose packets


@pytest.fixture
def cluster(hosts: list[SshHost], tmp_path: Path) -> Iterator[SshCluster]:
    made = SshCluster(tmp_path, hosts)
    yield made
    made.clean_up()
