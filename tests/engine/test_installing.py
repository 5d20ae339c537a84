"""Making an environment: the disk is looked at first, one builder for each machine, and nothing outside of its place."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from clusterctl_runtime.engine import found
from clusterctl_runtime.engine.installing import Installation, InstallFailed
from clusterctl_runtime.engine.wheelhouse import Wheel

from tests.support.wheel_index import kept_wheels, wanted

SMALL = ("uv", "six")
FACTS = Path(found.__file__).read_text() + "\nimport json\nprint(json.dumps(installed_packages()))\n"


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """With two wheels in it, as on the head's own machine."""
    house, wheels = kept_wheels(wanted())
    (tmp_path / "wheels").mkdir()
    for wheel in small(wheels):
        (tmp_path / "wheels" / wheel.sha256).symlink_to(house.path(wheel.sha256))
    return tmp_path


def small(wheels: list[Wheel]) -> list[Wheel]:
    return [wheel for wheel in wheels if wheel.file.partition("-")[0] in SMALL]


def environment(**changes: Any) -> dict[str, Any]:
    wheels = [{"file": w.file, "sha256": w.sha256, "size": w.size} for w in small(kept_wheels(wanted())[1])]
    digest = hashlib.sha256(b"an environment").hexdigest()
    return {"digest": digest, "ray": "2.60.0", "extras": [], "python": "3.11", "wheels": wheels, **changes}


def install(root: Path, told: list[str], **changes: Any) -> str:
    return asyncio.run(Installation(root, environment(**changes), None, told.append).ensure())


def test_too_little_disk_is_said_before_anything_is_fetched(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 2**20, 2**20))
    with pytest.raises(InstallFailed, match=r"needs \d+ MiB of disk below .*, which has 1 MiB left: free some there"):
        install(root, [])
    assert not list(root.glob("*/engine.json"))


def test_two_nodes_of_a_machine_make_it_once(root: Path) -> None:
    told: dict[str, list[str]] = {"first": [], "second": []}

    async def both() -> list[str]:
        makers = [Installation(root, environment(), None, told[name].append).ensure() for name in told]
        return await asyncio.gather(*makers)

    first, second = asyncio.run(both())
    assert first == second
    assert told["second"] == ["waiting for Ray 2.60.0, which another node on this machine installs"]
    again: list[str] = []
    assert install(root, again) == first
    assert again == [], "it is there"


def test_packages_are_in_it_and_noted_beside_it(root: Path) -> None:
    python = Path(install(root, [], packages=["six>=1"]))
    said = subprocess.run([python, "-I", "-c", "import six; print(six.__file__)"], capture_output=True, text=True)
    assert said.stdout.startswith(str(python.parents[1])), said.stderr
    assert json.loads((python.parents[1] / "engine.json").read_text())["packages"] == ["six>=1"]
    found = subprocess.run([python, "-I", "-c", FACTS], capture_output=True, text=True, cwd=root)
    assert json.loads(found.stdout)["six"].startswith("1."), "an interpreter says what it has"


def test_what_uv_says_is_a_part_of_the_reason(root: Path) -> None:
    wheels = environment()["wheels"]
    victim = next(wheel for wheel in wheels if wheel["file"].startswith("six-"))
    path = root / "wheels" / victim["sha256"]
    path.unlink()
    data = b"no wheel at all"
    broken = {**victim, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    (root / "wheels" / broken["sha256"]).write_bytes(data)
    with pytest.raises(InstallFailed, match=r"uv ended with exit code \d+\n(.|\n)*six"):
        install(root, [], wheels=[*(w for w in wheels if w is not victim), broken])


@pytest.mark.parametrize("file", ["../six-1.whl", "a/six-1.whl", "six.txt", "", "-rsix.whl"])
def test_a_wheel_whose_name_is_none_is_refused(root: Path, file: str) -> None:
    wheel = {"file": file, "sha256": "0" * 64, "size": 1}
    with pytest.raises(InstallFailed, match="is not a wheel"):
        install(root, [], wheels=[wheel])


def test_a_digest_that_is_a_path_is_refused(root: Path) -> None:
    with pytest.raises(InstallFailed, match="is not the digest"):
        install(root, [], digest="../../etc")
