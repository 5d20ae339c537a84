"""Wheels are resolved and downloaded once, from the index that the machine is set up for; trouble is told apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from clusterctl_runtime.engine.index import IndexUnreachable, pip_settings, uv_environment
from clusterctl_runtime.engine.wheelhouse import NoWheels, Wheelhouse, platform_of

from tests.support.wheel_index import WheelIndex, kept_wheels, serving, wanted


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[WheelIndex]:
    with serving(*kept_wheels(wanted())) as index:
        monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
        yield index


def test_an_environment_is_downloaded_once_and_what_arrives_damaged_again(index: WheelIndex, tmp_path: Path) -> None:
    index.damage.append("idna-")
    told: list[str] = []
    wheels = Wheelhouse(tmp_path).get(wanted(), told.append)
    assert {wheel.file for wheel in wheels} == set(index.wheels)
    idna = [file for file in index.downloads if file.startswith("idna-")]
    assert len(index.downloads) == len(wheels) + 1
    assert len(idna) == 2
    assert any(f"({len(wheels)} of {len(wheels)} wheels" in line for line in told)
    asked = len(index.asked)
    assert Wheelhouse(tmp_path).get(wanted(), told.append) == wheels
    assert len(index.asked) == asked, "nothing more is asked for"


def test_packages_are_resolved_and_kept_together_with_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    want = wanted(packages=("iniconfig>=2",))
    house, kept = kept_wheels(want)
    with serving(house, kept) as index:
        monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
        wheels = Wheelhouse(tmp_path).get(want, lambda text: None)
        assert len([wheel for wheel in wheels if wheel.file.startswith("iniconfig-") and len(wheel.sha256) == 64]) == 1
        assert index.downloads.count(next(w.file for w in wheels if w.file.startswith("iniconfig-"))) == 1
        impossible = replace(want, packages=("iniconfig>=999",))
        with pytest.raises(
            NoWheels, match=r"Ray 2\.60\.0 with default and iniconfig>=999 for .* is not in the (.|\n)*999"
        ):
            Wheelhouse(tmp_path).get(impossible, lambda text: None)


def test_a_download_that_was_broken_off_goes_on_with_the_same_versions(index: WheelIndex, tmp_path: Path) -> None:
    house = Wheelhouse(tmp_path)
    wheels = house.get(wanted(), lambda text: None)
    lost = house.path(wheels[3].sha256)
    lost.unlink()
    index.asked.clear()
    assert Wheelhouse(tmp_path).get(wanted(), lambda text: None) == wheels
    assert index.downloads == [wheels[3].file]
    assert len(index.asked) == 1, "it is not resolved again"


def test_a_version_that_does_not_exist_is_told_apart_from_an_index_that_does_not_answer(
    index: WheelIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NoWheels, match=r"Ray 2\.99\.0 with default .* is not in the package index: (.|\n)*2\.99\.0"):
        Wheelhouse(tmp_path).get(wanted(ray="2.99.0"), lambda text: None)
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    with pytest.raises(IndexUnreachable, match=r"could not be looked for(.|\n)*127\.0\.0\.1:9"):
        Wheelhouse(tmp_path).get(replace(wanted(), ray="2.59.0"), lambda text: None)


@pytest.mark.parametrize(
    ("facts", "platform"),
    [
        ({"system": "linux", "machine": "x86_64", "libc": "glibc 2.36"}, "x86_64-manylinux_2_28"),
        ({"system": "linux", "machine": "aarch64", "libc": "glibc 2.28"}, "aarch64-manylinux_2_28"),
        ({"system": "linux", "machine": "x86_64", "libc": "glibc 2.26"}, "x86_64-manylinux_2_17"),
        ({"system": "darwin", "machine": "arm64", "libc": ""}, "aarch64-apple-darwin"),
    ],
)
def test_machines_that_can_share_wheels_do(facts: dict[str, str], platform: str) -> None:
    assert platform_of(facts) == platform


def test_a_machine_that_ray_has_no_wheels_for_is_told_so() -> None:
    with pytest.raises(NoWheels, match=r"musl.*engine\.ray\.python.*engine: none"):
        platform_of({"system": "linux", "machine": "x86_64", "libc": "musl 1.2"})


def test_what_only_pip_was_told_holds_for_uv_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "PIP_INDEX_URL", "PIP_FIND_LINKS", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    conf = tmp_path / "pip.conf"
    conf.write_text(
        "[global]\nindex-url = https://wheels.example/simple\nextra-index-url = https://more.example/simple\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(conf))
    env = uv_environment()
    assert env["UV_DEFAULT_INDEX"] == "https://wheels.example/simple"
    assert env["UV_INDEX"] == "https://more.example/simple"
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://uv.example/simple")
    assert uv_environment()["UV_DEFAULT_INDEX"] == "https://uv.example/simple"
    assert "UV_INDEX" not in uv_environment(), "who set uv up is not second-guessed"


def test_variables_of_pip_win_over_its_files(tmp_path: Path) -> None:
    conf = tmp_path / "pip.conf"
    conf.write_text("[global]\nindex-url = https://file.example/simple\n")
    told = {"PIP_CONFIG_FILE": str(conf), "PIP_INDEX_URL": "https://variable.example/simple"}
    assert pip_settings(told)["index-url"] == "https://variable.example/simple"
