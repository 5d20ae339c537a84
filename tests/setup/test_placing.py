"""Files on their way to where the user wants them."""

from __future__ import annotations

from pathlib import Path

import pytest
from clusterctl_runtime.agent.preparing.placing import (
    CannotPlace,
    place_directory,
    place_file,
    staging_directory,
    target_path,
)


def staged(target: Path, files: dict[str, str]) -> Path:
    staging = staging_directory(target, is_directory=True)
    for name, text in files.items():
        (staging / name).parent.mkdir(parents=True, exist_ok=True)
        (staging / name).write_text(text)
    return staging


def tree(root: Path) -> dict[str, str]:
    return {p.relative_to(root).as_posix(): p.read_text() for p in root.rglob("*") if p.is_file()}


def test_a_new_directory_appears_whole_and_a_changed_one_keeps_what_others_put_there(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "data"
    first = place_directory(staged(target, {"a": "1", "sub/b": "2", "same": "s"}), target, [])
    assert tree(target) == {"a": "1", "sub/b": "2", "same": "s"}
    (target / "theirs").write_text("t")
    untouched, inode = (target / "same").stat().st_ino, target.stat().st_ino
    second = place_directory(staged(target, {"a": "changed", "same": "s"}), target, first)
    assert tree(target) == {"a": "changed", "same": "s", "theirs": "t"}
    assert second == ["a", "same"] and not (target / "sub").exists(), "what we brought and is no longer wanted went"
    assert (target / "same").stat().st_ino == untouched and target.stat().st_ino == inode


def test_a_link_in_the_way_is_replaced_not_followed(tmp_path: Path) -> None:
    target, secret = tmp_path / "data", tmp_path / "secret"
    target.mkdir()
    secret.write_text("mine")
    (target / "a").symlink_to(secret)
    place_directory(staged(target, {"a": "1"}), target, [])
    assert secret.read_text() == "mine" and tree(target) == {"a": "1"}


def test_a_directory_where_a_file_should_go_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(CannotPlace, match="is a directory"):
        place_file(staged(tmp_path / "x", {"one": "1"}), tmp_path / "x")


def test_a_file_where_a_directory_should_go_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(CannotPlace, match="is a file"):
        place_directory(staged(tmp_path / "x", {"one": "1"}), tmp_path / "x", [])


def test_relative_targets_are_below_the_nodes_own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert target_path("data", tmp_path) == tmp_path / "data"
    assert target_path("~/data", tmp_path) == Path("/home/ann/data")
    assert target_path("/data/", tmp_path) == Path("/data")
