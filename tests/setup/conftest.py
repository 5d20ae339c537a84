from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cluster import LocalCluster


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[Callable[..., LocalCluster]]:
    """`make(spec, files)`: a cluster that is not up yet, with `files` beside its spec. Nothing of it is left at the end."""
    made: list[LocalCluster] = []

    def make(spec: str, files: dict[str, str] | None = None, name: str = "demo") -> LocalCluster:
        directory = tmp_path / f"c{len(made)}"
        directory.mkdir()
        for path, text in (files or {}).items():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_text(text)
        made.append(LocalCluster(directory, spec, name))
        made[-1].env["HOME"] = str(directory)  # set-up runs in login shells: none reads what this user's do
        return made[-1]

    yield make
    for cluster in made:
        cluster.clean_up()
