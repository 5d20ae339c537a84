from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.provision.stage import Stage


@pytest.fixture
def set_stage(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """Makes stages, with the fake cloud's faults and settings as arguments, and closes them."""
    stages: list[Stage] = []

    def make(*faults: dict[str, object], **settings: object) -> Stage:
        stages.append(Stage(tmp_path / str(len(stages)), list(faults), **settings))
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()


@pytest.fixture
def stage(set_stage: Callable[..., Stage]) -> Stage:
    return set_stage()
