"""What every test needs, wherever it is run from."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

# A shell that runs a command in the background makes it ignore SIGINT, and all that it starts. Tests press Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several workers (`make test`): most tests wait most of the time. A file's tests stay together, and so do all that
    want the one network of the pretended clouds' machines, or the Docker engine's attention."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_together(item)))


def _together(item: pytest.Item) -> str:
    place = item.path.relative_to(HERE)
    if place.parts[0] in ("aws", "cloud"):
        return "clouds"
    return "docker" if "docker_engine" in getattr(item, "fixturenames", ()) else str(place)
