"""Packages for a machine with another Python: made here, without that Python."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from clusterctl.client.up.foreign_packages import packages_for
from clusterctl.core.errors import ClusterctlError

OTHER = "3.12" if sys.version_info[:2] != (3, 12) else "3.13"


def facts(**other: str) -> dict[str, str]:
    return {"python_minor": OTHER, "machine": platform.machine(), "libc": "glibc", **other}


def test_compiled_packages_are_those_of_the_other_python_and_are_got_once(tmp_path: Path) -> None:
    place = packages_for(facts(), tmp_path)
    tag = f"cpython-{OTHER.replace('.', '')}-{platform.machine()}"
    assert [path.name for path in (place / "pydantic_core").glob(f"*{tag}*.so")]
    assert (place / "fastapi" / "__init__.py").exists()
    before = place.stat().st_mtime_ns
    assert packages_for(facts(), tmp_path) == place and place.stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_packages_for_another_processor_are_not_those_for_this_one(tmp_path: Path) -> None:
    other = "aarch64" if platform.machine() == "x86_64" else "x86_64"
    place = packages_for(facts(machine=other), tmp_path)
    assert [path.name for path in (place / "pydantic_core").glob(f"*{other}*.so")]


def test_a_python_for_which_a_version_of_ours_is_not_made_gets_others(tmp_path: Path) -> None:
    place = packages_for(facts(python_minor="3.10"), tmp_path)
    assert [path.name for path in (place / "pydantic_core").glob("*cpython-310*.so")]
    assert not (place / "typer").exists()  # the command line stays here


@pytest.mark.parametrize(
    "other, says", [({"machine": "sparc"}, "no ready-made packages for sparc"), ({"python_minor": "3.1"}, "Python 3.1")]
)
def test_what_cannot_be_had_is_said_and_nothing_is_left(other: dict[str, str], says: str, tmp_path: Path) -> None:
    with pytest.raises(ClusterctlError, match=says):
        packages_for(facts(**other), tmp_path)
    assert not list(tmp_path.glob("*packages-*"))
