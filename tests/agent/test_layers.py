"""A job's own packages: beside those of its node, made once, whole or not at all."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from clusterctl_runtime.agent.preparing import layers
from clusterctl_runtime.agent.preparing.layers import MARKER, Layers
from clusterctl_runtime.agent.preparing.packages import PackageError
from clusterctl_runtime.wire import TaskSpec

from tests.support.wheels import make_wheel

SHOW = "import sys, own_words, packaging; print(own_words.VERSION, sys.prefix, sys.executable)"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A directory with wheels, as what asks no other index."""
    wheels = tmp_path_factory.mktemp("wheels")
    make_wheel(wheels, "own_words", "1.5", needs="packaging", program="own-words")
    make_wheel(wheels, "own_words", "2.0")
    make_wheel(wheels, "needs_more", "1.0", needs="nobody-has-this")
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}


def task(name: str, index: dict[str, str], *words: str, requirements: list[str]) -> TaskSpec:
    return TaskSpec(name, list(words), env=index, requirements=requirements, python=sys.executable)


def test_a_task_finds_its_packages_beside_those_of_its_node_and_what_cannot_be_had_is_its_end(
    head, start_agent, index: dict[str, str]
) -> None:
    agent = start_agent()
    head.until_joined()
    lines = ["own_words<2"]
    head.run(task("j-1/1/0", index, sys.executable, "-c", SHOW, requirements=lines))
    assert head.until_exited("j-1/1/0", 120).exit_code == 0, bytes(head.log("j-1/1/0").data)
    version, prefix, executable = bytes(head.log("j-1/1/0").data).decode().split()
    (place,) = (agent.directory / "layers").iterdir()
    assert (version, Path(prefix), Path(executable)) == ("1.5", place, place / "bin" / "python")
    assert not list(place.glob("lib/*/site-packages/packaging")), "what the node has is not installed again"

    made = (place / MARKER).stat().st_ino
    ranks = {"j-2/1/0": ("own-words",), "j-2/1/1": ("python", "-c", "import own_words; own_words.main()")}
    head.run(*[task(name, index, *words, requirements=lines) for name, words in ranks.items()])
    for name in ranks:
        assert head.until_exited(name, 120).exit_code == 0
        assert bytes(head.log(name).data) == b"1.5\n"
    assert (place / MARKER).stat().st_ino == made, "it is made once"
    head.run(TaskSpec("j-3/1/0", [sys.executable, "-c", "import own_words"]))
    assert head.until_exited("j-3/1/0").exit_code == 1, "other jobs do not have them"

    head.run(task("j-4/1/0", index, "true", requirements=["needs_more"]))
    report = head.until_exited("j-4/1/0", 120)
    assert report.exit_code is None and not report.lost, "another node could not do better"
    assert "pip cannot install them" in report.error and "nobody-has-this" in report.error
    assert list((agent.directory / "layers").glob(f"*/{MARKER}")) == [place / MARKER]


def test_one_that_was_broken_off_is_made_anew_and_those_used_last_stay(
    tmp_path: Path, index: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "KEPT", 1)
    for number in range(3):
        (tmp_path / f"old{number}").mkdir()
        os.utime(tmp_path / f"old{number}", (number, number))
    store, env = Layers(tmp_path), {**os.environ, **index}

    async def hold() -> Path:
        return await store.hold(["own_words"], sys.executable, env)

    async def twice() -> Path:
        place = await hold()
        assert {path.name for path in tmp_path.iterdir()} == {place.name, "old2"}, "what is used counts for none"
        (place / MARKER).unlink()
        (place / "half").touch()
        assert await hold() == place
        return place

    place = asyncio.run(twice())
    assert (place / MARKER).exists() and not (place / "half").exists()


def test_a_python_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="/no/python does not run"):
        asyncio.run(Layers(tmp_path).hold(["six"], "/no/python", {}))
