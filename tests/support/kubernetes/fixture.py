"""`control_plane`: one for all tests of a process, each of which takes namespaces and node names of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.kubernetes.plane import ControlPlane
from tests.support.kubernetes.programs import Unavailable, programs
from tests.support.loud import NOT_HERE


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    skip_where_there_is_none()
    with ControlPlane(tmp_path_factory.mktemp("kubernetes") / "plane") as plane:
        yield plane


def skip_where_there_is_none() -> None:
    """Builds Kubernetes where that has not been done."""
    try:
        programs()
    except Unavailable as error:
        pytest.skip(f"{NOT_HERE}a Kubernetes: {error}")
