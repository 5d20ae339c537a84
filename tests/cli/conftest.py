from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cluster import LocalCluster

SPEC = "cluster: demo\nprovider: local\nengine: none\npools:\n  - {name: cpu, min: 1, max: 2, resources: {CPU: 2}}\n"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs the command line in an empty home, in a directory of its own."""
    environment = {**os.environ, "CLUSTERCTL_HOME": str(tmp_path / "home"), "NO_COLOR": "1", "COLUMNS": "100"}
    environment.pop("CLUSTERCTL_CLUSTER", None)

    def call(*arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
        options = {
            "text": True,
            "capture_output": True,
            "timeout": 120,
            "stdin": subprocess.DEVNULL,
            "env": environment,
            "cwd": tmp_path,
        }
        return subprocess.run([sys.executable, "-m", "clusterctl", *arguments], **options | more)  # type: ignore[call-overload]

    return call


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """One running cluster for all tests of a module."""
    running = LocalCluster(tmp_path_factory.mktemp("cluster"), SPEC)
    try:
        running.up()
        yield running
    finally:
        running.clean_up()
