from collections.abc import Iterator

import pytest

from tests.contract.worlds import WORLDS, World, make_world
from tests.support.docker_engine import docker_engine

__all__ = ["docker_engine"]


@pytest.fixture(params=sorted(WORLDS))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "docker":
        request.getfixturevalue("docker_engine")
    place = make_world(request.param)
    yield place
    place.close()
