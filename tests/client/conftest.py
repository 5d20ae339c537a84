from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterctl.client.registry import Registry
from tests.support.stub_head import StubHead


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "home", environment={})


@pytest.fixture
def stub(registry: Registry) -> Iterator[StubHead]:
    head = StubHead(registry)
    head.start()
    yield head
    head.stop()
