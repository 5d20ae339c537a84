"""A head on a machine whose Python is of another minor version than the client's, which gets its packages for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ssh.cluster import SshCluster, traces
from tests.support.docker_engine import DockerEngine, cache_directory
from tests.support.ssh_hosts import SshHost, SshHosts

LEAST = (3, 10)


def minor(directory: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in directory.name.split(".")[:2])


def other_python() -> tuple[Path, str]:
    """A Python installed beside the one that runs this (as pyenv and hosted runners have them): its prefix, "3.N"."""
    here = Path(sys.base_prefix)
    depth = 1 if here.parent.name[:1] == "3" else 0  # .../3.12.1/x64
    versions = here.parents[depth].glob("3.*.*")
    found = sorted(v for v in versions if LEAST <= minor(v) != sys.version_info[:2] and (v / "bin").exists() | depth)
    assert found, f"no second Python 3.10 or newer beside {here}: install one there (pyenv install 3.12)"
    chosen = found[-1]
    return (chosen / here.name if depth else chosen), ".".join(map(str, minor(chosen)))


@pytest.fixture
def host(docker_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHost]:
    prefix, version = other_python()
    volumes = {str(prefix): {"bind": str(prefix), "mode": "ro"}}
    with SshHosts(docker_engine, tmp_path_factory.mktemp("keys")) as made:
        (one,) = made.start(1, volumes=volumes)
        one.run("chmod", "a+x", *(str(parent) for parent in list(prefix.parents)[:-1]))
        one.run("ln", "-s", str(prefix / "bin" / f"python{version}"), "/usr/local/bin/python3")
        yield one


def test_a_head_comes_up_under_another_python_than_the_clients(host: SshHost, tmp_path: Path) -> None:
    cluster = SshCluster(tmp_path, [host])
    kept = cache_directory() / "head-packages"  # what the package index gave is kept from one run to the next
    kept.mkdir(mode=0o700, exist_ok=True)
    (cluster.home / "cache").unlink()
    (cluster.home / "cache").symlink_to(kept)
    try:
        said = cluster.cli("up", str(cluster.spec), "-y", timeout=240).stderr
        assert f"has Python {other_python()[1]} on" in said
        job = cluster.submit("--", "python3", "-V")
        cluster.wait_job(job, "succeeded")
        assert other_python()[1] in cluster.cli("logs", job).stdout
        again = cluster.cli("up", str(cluster.spec), "-y").stderr
        assert "packages go to" not in again
        cluster.down()
        assert traces(host) == []
    finally:
        cluster.clean_up()
