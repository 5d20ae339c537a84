from __future__ import annotations

import pytest

from tests.support.kubernetes.fixture import control_plane

__all__ = ["control_plane"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first run ever builds Kubernetes: minutes, and more of them where other tests run meanwhile."""
    for item in items:
        if "control_plane" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(1200))
