"""What somebody without a Docker engine is told, and that they get rid of what they tried."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
import requests
from clusterctl_providers.docker.client import in_words

from tests.support.cluster import LocalCluster

NOWHERE = "unix:///nowhere/docker.sock"
TOLD = f"no Docker engine answers at {NOWHERE} (No such file or directory): start it (systemctl start docker)"
SPEC = """\
cluster: demo
provider: docker
engine: none
pools: [{name: cpu, min: 1, max: 1, resources: {CPU: 1}}]
"""


def test_a_cluster_that_never_had_an_engine_says_what_to_start_and_is_taken_down_without_one(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path, SPEC)
    cluster.env["DOCKER_HOST"] = NOWHERE
    try:
        failed = cluster.cli("up", str(cluster.spec), code=1)
        assert TOLD in failed.stderr and "HTTPConnection" not in failed.stderr and "Errno" not in failed.stderr
        began = time.monotonic()
        cluster.cli("down", "-y")
        assert time.monotonic() - began < 60, "an engine that is not there is not waited for"
        assert cluster.json("list")["clusters"] == []
        assert cluster.processes() == []
    finally:
        for process in cluster.processes():
            process.kill()
        shutil.rmtree(cluster.home, ignore_errors=True)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            requests.ConnectionError("Connection aborted.", FileNotFoundError(2, "No such file or directory")),
            "No such file or directory",
        ),
        (
            requests.ConnectionError(("Connection aborted.", PermissionError(13, "Permission denied"))),
            "Permission denied",
        ),
        (requests.ReadTimeout("Read timed out."), "Read timed out."),
    ],
)
def test_what_the_system_said_is_found_in_what_libraries_made_of_it(error: Exception, words: str) -> None:
    assert in_words(error) == words
