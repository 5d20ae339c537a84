from collections.abc import Iterator

import pytest

from tests.contract.worlds import WORLDS, World, make_world


@pytest.fixture(params=sorted(WORLDS))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    place = make_world(request.param)
    yield place
    place.close()
