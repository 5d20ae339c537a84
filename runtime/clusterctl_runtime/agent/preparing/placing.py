"""Files of the spec on their way to where the user wants them. What is there already is never half replaced.

A target that does not exist appears whole, by one rename. Into a directory that exists the files go one by one, each by a
rename; those that are the same are left alone, and those that an earlier version of the package brought and this one
lacks are removed. What we did not bring is never touched.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from clusterctl_runtime.agent.preparing.removal import remove_tree


class CannotPlace(Exception):
    """The message names the path and what to do."""


def target_path(to: str, relative_to: Path) -> Path:
    """Where `to` is on this node: absolute, below the user's home (~), or below `relative_to`."""
    path = Path(to).expanduser()
    return path if path.is_absolute() else relative_to / path


def staging_directory(target: Path, is_directory: bool) -> Path:
    """A fresh empty directory beside `target`, so that a rename leads there; what lies above is made. Where this user may
    not and sudo asks for no password, a target that is to be a directory is made ours and staged in."""
    parent = target.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{target.name[:80]}.", suffix=".part", dir=parent))
    except PermissionError as error:
        if not is_directory:
            raise CannotPlace(f"{parent} cannot be written by {_user()}: choose a path below ~") from error
        return _staging_inside(target)
    except OSError as error:
        raise CannotPlace(f"{parent} cannot be made: {error.strerror}") from error


def _staging_inside(target: Path) -> Path:
    try:
        if not os.access(target, os.W_OK):
            _make_ours(target)
        return Path(tempfile.mkdtemp(prefix=".clusterctl.", suffix=".part", dir=target))
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotPlace(
            f"{target} cannot be written by {_user()}, and sudo without a password is not to be had: choose a path below ~"
        ) from error


def _user() -> str:
    return os.environ.get("USER") or f"user {os.geteuid()}"


def _make_ours(target: Path) -> None:
    for argv in (["mkdir", "-p", "--", str(target)], ["chown", f"{os.geteuid()}:{os.getegid()}", "--", str(target)]):
        subprocess.run(["sudo", "-n", *argv], check=True, timeout=30, capture_output=True)


def place_file(staging: Path, target: Path) -> list[str]:
    """Moves the only file in `staging` to `target`."""
    (source,) = staging.iterdir()
    if target.is_dir():
        raise CannotPlace(f"{target} is a directory, and a file is to go there: name the file in `to`")
    source.replace(target)
    return []


def place_directory(staging: Path, target: Path, before: Sequence[str]) -> list[str]:
    """Moves what is in `staging` to the directory `target`; `before` are the files that an earlier version brought.
    Returns those of this one, relative to `target`."""
    files = sorted(path.relative_to(staging).as_posix() for path in staging.rglob("*") if not path.is_dir())
    if target.exists() and not target.is_dir():
        raise CannotPlace(f"{target} is a file, and a directory is to go there: choose another `to`")
    if not target.exists():
        staging.rename(target)
        return files
    for path in sorted(staging.rglob("*")):
        place = target / path.relative_to(staging)
        if path.is_dir():
            _make_directory(place)
        elif not _is_same(path, place):
            path.replace(place)
    for name in set(before) - set(files):
        _remove(target, target / name)
    return files


def _make_directory(place: Path) -> None:
    try:
        place.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError as error:
        raise CannotPlace(f"{place} is a file, and a directory is to go there: move it away") from error


def _is_same(new: Path, old: Path) -> bool:
    if old.is_symlink() or not old.is_file():
        if old.is_dir():
            raise CannotPlace(f"{old} is a directory, and a file is to go there: move it away")
        return False
    same_mode = (new.stat().st_mode ^ old.stat().st_mode) & 0o100 == 0
    return same_mode and filecmp.cmp(new, old, shallow=False)


def _remove(root: Path, path: Path) -> None:
    """The file, and the directories above it (not `root`) that are empty then."""
    with contextlib.suppress(OSError):
        path.unlink()
    for parent in path.parents:
        if parent == root:
            return
        try:
            parent.rmdir()
        except OSError:
            return


def clear(staging: Path) -> None:
    """Whatever is left of a staging directory."""
    remove_tree(staging)
