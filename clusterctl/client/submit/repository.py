"""What git has of a directory: asked of git itself, so that tracked files, `info/exclude` and the user's own excludes count
exactly as they do there."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from clusterctl.core.errors import UsageError

# A hook or an alias of git may have set where *its* repository is.
_OF_ANOTHER = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX", "GIT_NAMESPACE")
SECONDS = 120.0  # for one answer: a large tree on a slow network disk takes its time


@dataclass(frozen=True)
class Repository:
    """What git has below `root`, as paths relative to it. `is_top`: the repository begins at `root` and not above it;
    `is_ignored`: it ignores `root` as a whole, so that its word is of no use to who wants just that directory."""

    root: Path
    is_top: bool
    is_ignored: bool
    tracked: frozenset[str]
    tracked_directories: frozenset[str]
    shown: frozenset[str]  # tracked, or neither tracked nor ignored
    shown_directories: frozenset[str]  # with something in them that is shown, or with nothing that git would keep

    def tracks(self, path: str, *, is_dir: bool) -> bool:
        """Whether git tracks it, or anything inside it."""
        return path in self.tracked or (is_dir and path in self.tracked_directories)

    def shows(self, path: str, *, is_dir: bool) -> bool:
        """A directory that is in the list itself is a repository of its own."""
        return path in self.shown or (is_dir and path in self.shown_directories)


def find_repository(directory: Path) -> Path | None:
    """The nearest directory, `directory` itself or above it, that git would take for a repository's."""
    return next((place for place in (directory, *directory.parents) if (place / ".git").exists()), None)


def read_repository(root: Path) -> Repository | None:
    """None where there is no git, or no repository around `root`. Raises UsageError with git's own words where git refuses to
    look."""
    if find_repository(root) is None or shutil.which("git") is None:
        return None
    prefix = _git(root, "rev-parse", "--show-prefix")
    if prefix is None:
        return None
    is_top = prefix.strip() == b""
    tracked = _paths(root, "--cached")
    others = _paths(root, "--others", "--exclude-standard")
    is_ignored = not tracked and not others and not is_top and _is_ignored(root)
    empty = _paths(root, "--others", "--exclude-standard", "--directory")
    shown = tracked | others
    directories = _directories(shown) | empty.difference(others)
    return Repository(root, is_top, is_ignored, tracked, _directories(tracked), shown, directories)


def _paths(root: Path, *which: str) -> frozenset[str]:
    said = _git(root, "ls-files", "-z", *which) or b""
    return frozenset(os.fsdecode(path).removesuffix("/") for path in said.split(b"\0") if path)


def _directories(paths: frozenset[str]) -> frozenset[str]:
    found: set[str] = set()
    for path in paths:
        while (path := path.rpartition("/")[0]) and path not in found:
            found.add(path)
    return frozenset(found)


def _is_ignored(root: Path) -> bool:
    return _run(root.parent, "check-ignore", "-q", "--", root.name).returncode == 0


def _git(root: Path, *arguments: str) -> bytes | None:
    """What git said; None where this is not a repository after all."""
    done = _run(root, *arguments)
    if done.returncode == 0:
        return done.stdout
    said = " ".join(done.stderr.decode(errors="backslashreplace").split())
    if "not a git repository" in said:
        return None
    raise UsageError(
        f"git cannot say which files of {root} are to travel (git {arguments[0]}: {said}). Set that right, or pack a directory "
        "outside of the repository with --working-dir"
    )


def _run(root: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    env = {name: value for name, value in os.environ.items() if name not in _OF_ANOTHER}
    env |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    try:
        return subprocess.run(
            ["git", "-C", str(root), *arguments],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"git did not say within {SECONDS:g} s which files of {root} are to travel") from error
    except OSError as error:
        raise UsageError(
            f"git, which says what files of {root} are to travel, does not run: {error.strerror}"
        ) from error
