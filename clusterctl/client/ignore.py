"""Which files of a working directory are left out: those git ignores, those of `.clusterctlignore`, and a few always."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from clusterctl.core.errors import UsageError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILES = (".gitignore", ".clusterctlignore")  # in this order: the second may take back what the first leaves out
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


@dataclass(frozen=True)
class _Rules:
    base: str  # "" or "dir/sub/": the patterns speak of paths below it
    spec: GitIgnoreSpec

    def verdict(self, path: str) -> bool | None:
        """True = left out, False = taken back by a "!" pattern, None = nothing said."""
        return self.spec.check_file(path[len(self.base) :]).include if path.startswith(self.base) else None


@dataclass(frozen=True)
class Ignored:
    """The rules in force in one directory: those of the directories above, then its own; the last word counts."""

    prefix: str = ""  # path of the packed root below the root of its repository, "" or ending in "/"
    rules: tuple[_Rules, ...] = ()
    without: Path | None = None  # a directory that is left out whatever the rules say

    @classmethod
    def at_root(cls, root: Path, without: Path | None = None) -> Ignored:
        """Rules from above `root` too when it lies inside a repository, as git reads them."""
        above: list[Path] = []
        for directory in (root, *root.parents):
            above.append(directory)
            if (directory / ".git").exists():
                break
        else:
            above = [root]
        top = above[-1]
        prefix = root.relative_to(top).as_posix()
        ignored = cls("" if prefix == "." else prefix + "/", without=without)
        for directory in reversed(above[1:]):
            inner = directory.relative_to(top).as_posix()
            ignored = ignored._with(directory, "" if inner == "." else inner + "/")
        return ignored

    def entering(self, directory: Path, path: str) -> Ignored:
        """The rules inside `directory`, whose path below the root is `path` ("" or ending in "/")."""
        return self._with(directory, self.prefix + path)

    def covers(self, path: str, *, is_dir: bool) -> bool:
        """Whether `path` (below the root) is left out."""
        name = path.rsplit("/", 1)[-1]
        if name in NEVER or name.endswith(".pyc"):
            return True
        whole = self.prefix + path + ("/" if is_dir else "")
        for rules in reversed(self.rules):
            verdict = rules.verdict(whole)
            if verdict is not None:
                return verdict
        return False

    def _with(self, directory: Path, base: str) -> Ignored:
        lines: list[str] = []
        for name in IGNORE_FILES:
            file = directory / name
            if file.is_file():
                lines += file.read_text(encoding="utf-8", errors="replace").splitlines()
        if not lines:
            return self
        # Imported only where there is something to match: it costs as much as the rest of a submission.
        from pathspec import GitIgnoreSpec

        try:
            spec = GitIgnoreSpec.from_lines(lines)
        except ValueError as error:
            raise UsageError(f"an ignore file in {directory} has a pattern that cannot be read: {error}") from error
        return replace(self, rules=(*self.rules, _Rules(base, spec)))
