from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes.head.boxes import Boxes
from tests.kubernetes.head.cluster import PodCluster
from tests.support.kubernetes.plane import ControlPlane
from tests.support.loud import NOT_HERE


@pytest.fixture(scope="module")
def boxes(control_plane: ControlPlane) -> Iterator[Boxes]:
    """Where pods run."""
    if os.geteuid() != 0:
        pytest.skip(f"{NOT_HERE}root, which pods are made with")
    # Other users have to get there: what pytest makes is for its own alone.
    with tempfile.TemporaryDirectory(prefix="pods-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o711)
        with Boxes(control_plane, control_plane.namespace("pods"), Path(directory) / "boxes") as made:
            yield made


@pytest.fixture(scope="module")
def cluster(boxes: Boxes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PodCluster]:
    """One for all tests of a module, with its head up."""
    made = PodCluster(tmp_path_factory.mktemp("cluster"), boxes)
    try:
        boxes.volume()
        made.cli("up", "cluster.yaml", "--yes")
        yield made
    finally:
        made.clean_up()
