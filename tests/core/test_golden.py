"""Golden sessions: scripts whose plans are compared with those on file. To accept a change: UPDATE_GOLDEN=1."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.core.session import play

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.txt"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_session_plans_what_is_on_file(path: Path) -> None:
    played = play(path.read_text())
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(played)
    assert played == path.read_text()
