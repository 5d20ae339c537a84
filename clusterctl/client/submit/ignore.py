"""Which files of a directory travel: those that git has, in a repository; elsewhere those that no `.gitignore` names.

The last word has `.clusterctlignore`, which leaves out what git has and lets in what git ignores. What is never content
(environments, caches) stays here unless git tracks it; `.git` itself always does.
"""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from clusterctl.client.submit.repository import Repository, find_repository, read_repository
from clusterctl.core.errors import UsageError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

OURS, GITS = ".clusterctlignore", ".gitignore"
NEVER = frozenset(
    {
        ".git",
        ".hg",
        ".svn",
        ".venv",
        "venv",
        "__pycache__",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".ipynb_checkpoints",
        ".DS_Store",
    }
)


class Verdict(enum.Enum):
    TRAVELS = "travels"
    NEVER = "never"  # by its name
    OURS = "ours"  # .clusterctlignore names it
    GIT = "git"  # git ignores it, or a .gitignore does


@dataclass(frozen=True)
class _Patterns:
    base: str  # "" or "dir/sub/": the patterns speak of paths below it
    spec: GitIgnoreSpec
    takes_back: bool

    def verdict(self, path: str) -> bool | None:
        """True = left out, False = taken back by a "!" pattern, None = nothing said."""
        return self.spec.check_file(path[len(self.base) :]).include if path.startswith(self.base) else None


@dataclass(frozen=True)
class _File:
    """All ignore files of one name, from the outermost directory to where we are; the last word counts."""

    name: str
    patterns: tuple[_Patterns, ...] = ()

    def entering(self, directory: Path, base: str) -> _File:
        """With the file of that name in `directory`, for paths below `base`, if there is one that says anything. Raises
        UsageError."""
        file = directory / self.name
        if not file.is_file():
            return self
        # git, too, takes a byte order mark for none of the first pattern.
        text = file.read_text(encoding="utf-8-sig", errors="surrogateescape")
        lines = [line.removesuffix("\r") for line in text.split("\n")]
        # Imported only where there is something to match: it costs as much as the rest of a submission.
        from pathspec import GitIgnoreSpec

        try:
            spec = GitIgnoreSpec.from_lines(lines)
        except ValueError as error:
            raise UsageError(f"{file} has a pattern that cannot be read: {error}") from error
        if not any(pattern.include is not None for pattern in spec.patterns):
            return self
        takes_back = any(pattern.include is False for pattern in spec.patterns)
        return replace(self, patterns=(*self.patterns, _Patterns(base, spec, takes_back)))

    def verdict(self, path: str) -> bool | None:
        """As of patterns: the innermost file that says anything counts."""
        for patterns in reversed(self.patterns):
            verdict = patterns.verdict(path)
            if verdict is not None:
                return verdict
        return None


class Repositories:
    """The repositories that a tree lies in or holds, each asked once. `above`: those that begin above the tree count, too."""

    def __init__(self, root: Path, *, above: bool = True) -> None:
        self._root, self._above = root, above
        self._known: dict[Path, Repository | None] = {}

    def of(self, directory: Path) -> Repository | None:
        """The one that `directory`, inside the tree, belongs to."""
        if directory not in self._known:
            own = (directory / ".git").exists() or directory == self._root
            self._known[directory] = read_repository(directory) if own else self.of(directory.parent)
        return self._known[directory]

    def judges(self, repository: Repository) -> bool:
        """Whether what this one ignores stays here; else it only says what it tracks."""
        return repository.is_top or (self._above and not repository.is_ignored)


@dataclass(frozen=True)
class Ignored:
    """The rules in force in one directory. `directory` is the real one, which a link may have led to."""

    repositories: Repositories
    directory: Path
    prefix: str = ""  # path of the packed root below the root of its repository, "" or ending in "/"
    ours: _File = field(default=_File(OURS))
    gits: _File = field(default=_File(GITS))
    without: Path | None = None  # a directory that is left out whatever the rules say
    behind_link: bool = False  # a link led to where git has nothing: it is asked no more, since it has the link

    @classmethod
    def at_root(cls, root: Path, without: Path | None = None, *, above: bool = True) -> Ignored:
        """`above`: rules from above `root` count, too, when it lies inside a repository, as they do for git."""
        ignored = cls(Repositories(root, above=above), root, without=without)
        top = find_repository(root) if above else None
        repository = ignored.repositories.of(root) if top else None
        if top is None or top == root or (repository and repository.is_ignored):
            return ignored
        steps = root.relative_to(top).parts
        ignored = replace(ignored, prefix="/".join(steps) + "/")
        for depth in range(len(steps)):
            base = "".join(f"{step}/" for step in steps[:depth])
            ignored = ignored._reading(top.joinpath(*steps[:depth]), base)
        return ignored

    def entering(self, directory: Path, path: str) -> Ignored:
        """The rules inside the real `directory`, whose path below the root is `path` ("" or ending in "/")."""
        return replace(self, directory=directory)._reading(directory, self.prefix + path)

    def judge(self, path: str, *, is_dir: bool) -> Verdict:
        """What becomes of `path` (below the root), which is in `directory`."""
        name = path.rpartition("/")[2]
        whole = self.prefix + path + ("/" if is_dir else "")
        ours = self.ours.verdict(whole)
        if name == ".git":
            return Verdict.NEVER
        if ours:
            return Verdict.OURS
        repository = None if self.behind_link else self.repositories.of(self.directory)
        real = (self.directory / name).relative_to(repository.root).as_posix() if repository else ""
        if repository and repository.tracks(real, is_dir=is_dir):
            return Verdict.TRAVELS
        if name in NEVER or name.endswith(".pyc") or (is_dir and (self.directory / name / "pyvenv.cfg").is_file()):
            return Verdict.NEVER
        if ours is False:
            return Verdict.TRAVELS
        if repository and self.repositories.judges(repository):
            shown = repository.shows(real, is_dir=is_dir) or (is_dir and _is_empty(self.directory / name))
            return Verdict.TRAVELS if shown else Verdict.GIT
        return Verdict.GIT if self.gits.verdict(whole) else Verdict.TRAVELS

    @cached_property
    def takes_back(self) -> bool:
        """Whether something inside a directory that git ignores may travel all the same."""
        return any(patterns.takes_back for patterns in self.ours.patterns)

    def following(self, target: Path) -> Ignored:
        """The rules for what is in the directory `target`, to which a link leads that travels."""
        repository = self.repositories.of(target)
        if repository is None or target == repository.root:
            return self
        shown = repository.shows(target.relative_to(repository.root).as_posix(), is_dir=True)
        return self if shown else replace(self, behind_link=True)

    def _reading(self, directory: Path, base: str) -> Ignored:
        ours, gits = self.ours.entering(directory, base), self.gits
        repository = None if self.behind_link else self.repositories.of(self.directory)
        if repository is None or not self.repositories.judges(repository):
            gits = gits.entering(directory, base)
        return self if ours is self.ours and gits is self.gits else replace(self, ours=ours, gits=gits)


def _is_empty(directory: Path) -> bool:
    """git knows no empty directories, and says nothing of those inside others that it does not track."""
    try:
        with os.scandir(directory) as items:
            return next(items, None) is None
    except OSError:
        return False
