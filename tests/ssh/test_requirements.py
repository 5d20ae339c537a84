"""What the head needs on its machine: requirements and markers of installed packages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from clusterctl.client.up import foreign_packages
from clusterctl.core.errors import ClusterctlError
from clusterctl.provision.ssh.distribution import CLIENT_ONLY, head_packages, head_requirements
from clusterctl.provision.ssh.requirements import closure, linux_environment, needed

Install = Callable[[Mapping[str, list[str]]], None]
OLD, NEW, ARM = (
    linux_environment("3.10", "x86_64"),
    linux_environment("3.13", "x86_64"),
    linux_environment("3.13", "aarch64"),
)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Distributions by name, with what their metadata says that they need."""

    def put(packages: Mapping[str, list[str]]) -> None:
        for name, requires in packages.items():
            place = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
            place.mkdir()
            lines = [
                "Metadata-Version: 2.1",
                f"Name: {name}",
                "Version: 1.0",
                *(f"Requires-Dist: {r}" for r in requires),
            ]
            (place / "METADATA").write_text("\n".join(lines) + "\n")
        monkeypatch.syspath_prepend(str(tmp_path))

    return put


@pytest.mark.parametrize(
    ("text", "environment", "extras", "holds"),
    [
        ("tomli>=2; python_version < '3.11'", OLD, (), True),
        ("tomli>=2; python_version < '3.11'", NEW, (), False),
        ("a; python_version >= '3.9' and python_version < '3.11'", OLD, (), True),
        ("a; python_version < '3.9' or python_version >= '3.13'", NEW, (), True),
        ("a; python_version < '3.9' or python_version >= '3.13'", OLD, (), False),
        ("a; extra == 'aws'", NEW, (), False),
        ("a; extra == 'aws'", NEW, ("aws",), True),
        ("a; extra == 'aws'", NEW, ("ssh", "aws"), True),
        ("a; extra == 'aws' and python_version < '3.11'", NEW, ("aws",), False),
        ("a; extra == 'aws' and python_version < '3.11'", OLD, ("aws",), True),
        ("a; python_version < '3.11' and extra == 'aws'", OLD, ("ssh",), False),
        ("a; extra == 'aws' or extra == 'ssh'", NEW, ("ssh",), True),
        ("a; extra != 'aws'", NEW, ("ssh",), True),
        ("a; (sys_platform != 'win32' and platform_python_implementation != 'PyPy') and extra == 'x'", NEW, ("x",), True),
        ("a; sys_platform == 'darwin'", NEW, (), False),
        ("a; platform_machine == 'aarch64'", ARM, (), True),
        ("a; platform_machine == 'aarch64'", NEW, (), False),
        ("a; python_full_version < '3.11.0a7'", OLD, (), True),
        ("a; python_version < '3.9'", linux_environment("3.10", "x86_64"), (), False),
    ],
)  # fmt: skip
def test_a_requirement_counts_where_its_whole_marker_holds(
    install: Install, text: str, environment: dict[str, str], extras: tuple[str, ...], holds: bool
) -> None:
    install({"our-own": [text]})
    assert [str(one) for one in needed("our-own", extras, environment)] == ([str(Requirement(text))] if holds else [])


def test_what_is_needed_is_followed_with_the_extras_that_are_asked_for(install: Install) -> None:
    install({
        "our-own": ["Web_Server[fast]>=1", "shown-only", "missing-here", "never; python_version < '3'", "our-own[more]"],
        "web-server": ["loop; extra == 'fast'", "pages; extra == 'slow'", "shown-only"],
        "loop": ["our-own"],
        "pages": [],
        "shown-only": ["paint"],
        "paint": [],
        "never": [],
    })  # fmt: skip
    assert closure("our-own") == {"web-server", "loop", "shown-only", "paint"}
    # what another package needs is needed, whoever else is left without it
    assert closure("our-own", without={"shown-only"}) == {"web-server", "loop", "shown-only", "paint"}
    assert closure("our-own", without={"web-server"}) == {"shown-only", "paint"}


def test_metadata_that_cannot_be_read_is_named_with_its_package(install: Install) -> None:
    install({"our-own": ["old-style (>dev)"]})
    with pytest.raises(ClusterctlError, match=r"our-own says 'old-style \(>dev\)'.*install it anew"):
        needed("our-own")


def test_the_head_gets_what_reads_requirements_and_nothing_of_the_command_line() -> None:
    packages = head_packages()
    assert {"packaging", "pydantic", "pydantic-core", "uvicorn", "cryptography"} <= packages
    assert not packages & {*CLIENT_ONLY, "clusterctl", "boto3", "pytest"}
    assert {"boto3", "botocore", "s3transfer", "paramiko"} <= head_packages(("aws",))
    assert "tomli" in {one.name for one in head_requirements(OLD)}
    assert "tomli" not in {one.name for one in head_requirements(NEW)}


def test_what_only_the_other_machines_python_needs_goes_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def made(pins: list[str], python: str, platform: str, target: Path, cache: Path) -> None:
        asked.append(pins)
        target.mkdir()

    monkeypatch.setattr(foreign_packages, "_install", made)
    foreign_packages.packages_for({"python_minor": "3.10", "machine": "x86_64", "libc": "glibc"}, tmp_path, ("aws",))
    foreign_packages.packages_for({"python_minor": "3.13", "machine": "x86_64", "libc": "glibc"}, tmp_path, ("aws",))
    assert [pin for pin in asked[0] if pin.startswith("tomli")] and "tomli>=2" not in asked[1]
    assert [pin for pin in asked[0] if pin.startswith("boto3==")]


def test_versions_of_our_own_package_are_asked_for_without_markers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def none_of_that(pins: list[str], python: str, platform: str, target: Path, cache: Path) -> None:
        asked.append(pins)
        if len(asked) == 1:
            raise foreign_packages.NotForThatPython("no")
        target.mkdir()

    monkeypatch.setattr(foreign_packages, "_install", none_of_that)
    foreign_packages.packages_for({"python_minor": "3.13", "machine": "x86_64", "libc": "glibc"}, tmp_path, ("aws",))
    assert "boto3>=1.34" in asked[1] and not [text for text in asked[1] if ";" in text or text.startswith("typer")]
