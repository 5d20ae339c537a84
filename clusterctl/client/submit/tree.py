"""The files of a directory that travel to the nodes, each with the path that it has there.

Symbolic links that stay inside become what they point to. Links that lead nowhere (an editor's lock is one) or back to a
directory that holds them are left out with a note. A link that leads outside is refused: without its target, which would
travel unseen, the job may lack what it needs.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clusterctl.client.submit.ignore import GITS, OURS, Ignored, Verdict
from clusterctl.core.errors import UsageError

MAX_FILES = 100_000
MAX_DEPTH = 256  # directories in each other
NOTES = 5  # said one by one
MAX_PATH = 3000  # bytes of one path: below a directory of the node it must stay under 4096
_ADVICE = f"or name it in {OURS}"


@dataclass(frozen=True)
class Entry:
    """One file (or empty directory: `path` ends in "/") of the archive. `size` in bytes, `mode` as in st_mode. `stamp`: times
    of change in ns, inode and device, which tell it from every other content that it had."""

    path: str
    source: Path
    size: int
    mode: int
    stamp: tuple[int, ...] = ()

    @property
    def changed(self) -> float:
        """When it was changed last, in unix seconds, as far as its file system says."""
        return max(self.stamp[:2], default=0) / 1e9


def entry_of(path: str, source: Path, status: os.stat_result) -> Entry:
    """The file `source` as `path`."""
    stamp = (status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)
    return Entry(path, source, status.st_size, status.st_mode, stamp)


@dataclass
class Tree:
    """What travels of `root`, and sentences about what of it does not although nobody asked for that. `looked`: when the look
    at it began, in unix seconds."""

    root: Path
    entries: list[Entry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    looked: float = field(default_factory=time.time)


def list_tree(root: Path, ignored: Ignored | None = None) -> Tree:
    """`ignored`: the rules at the root, by default git's and those of the ignore files."""
    root = root.resolve()
    tree = Tree(root)
    walk = _Walk(root, tree.notes.append)
    for entry in walk.below(root, "", ignored or Ignored.at_root(root), (root,)):
        tree.entries.append(entry)
        if len(tree.entries) > MAX_FILES:
            raise UsageError(
                f"{root} has more than {MAX_FILES:,} files: choose a smaller --working-dir, or name what the job does "
                f"not need in {OURS}"
            )
    tree.entries.sort(key=lambda entry: os.fsencode(entry.path))
    return tree


class _Walk:
    def __init__(self, root: Path, note: Callable[[str], None]) -> None:
        self._root, self._note = root, note

    def below(self, directory: Path, path: str, ignored: Ignored, chain: tuple[Path, ...]) -> Iterator[Entry]:
        """Entries below `directory`, which is `path` in the archive. `chain`: the real directories we are inside of."""
        if len(chain) > MAX_DEPTH:
            raise UsageError(
                f"{directory} lies more than {MAX_DEPTH} directories deep, which is too deep to travel: move it, {_ADVICE}"
            )
        try:
            ignored = ignored.entering(directory, path)
            items = sorted(os.scandir(directory), key=lambda item: os.fsencode(item.name))
        except FileNotFoundError:
            return  # it went while we looked
        except OSError as error:
            raise UsageError(f"{directory} cannot be read ({error.strerror}): change its mode, {_ADVICE}") from error
        empty = True
        for item in items:
            for entry in self._of_item(item, path + item.name, ignored, chain):
                empty = False
                yield entry
        if empty and path:
            yield Entry(path, directory, 0, stat.S_IFDIR | 0o755)

    def _of_item(
        self, item: os.DirEntry[str], inner: str, ignored: Ignored, chain: tuple[Path, ...]
    ) -> Iterator[Entry]:
        is_dir = _is_dir(item)
        verdict = ignored.judge(inner, is_dir=is_dir)
        only_look = is_dir and verdict is Verdict.GIT and ignored.takes_back
        if verdict is not Verdict.TRAVELS and not only_look:
            return
        target = self._inside(Path(item.path), inner, chain) if item.is_symlink() else Path(item.path)
        if target is None or target == ignored.without:
            return
        if len(os.fsencode(inner)) > MAX_PATH:
            raise UsageError(
                f"{item.path} has a path of over {MAX_PATH} bytes, which is too long to travel: move it, {_ADVICE}"
            )
        if not is_dir:
            if found := _entry(inner, target):
                yield found
            return
        rules = ignored.following(target) if item.is_symlink() else ignored
        within = self.below(target, f"{inner}/", rules, (*chain, target))
        if only_look:
            within = (entry for entry in within if not entry.path.endswith("/"))
        yield from within

    def _inside(self, link: Path, path: str, chain: tuple[Path, ...]) -> Path | None:
        """What a symbolic link stands for, when that lies inside the root and is no directory that we are already in."""
        leads = ""
        try:
            leads = os.fspath(link.readlink())
            target = link.resolve(strict=True)
        except FileNotFoundError:
            self._note(f"{path} is left out: it is a link that leads nowhere ({leads})")
            return None
        except (OSError, RuntimeError) as error:  # a circle is one or the other, depending on the Python
            why = error.strerror if isinstance(error, OSError) else "a circle"
            self._note(f"{path} is left out: it is a link that cannot be followed ({leads}: {why})")
            return None
        if not target.is_relative_to(self._root):
            raise UsageError(
                f"the symbolic link {link} leads out of {self._root} (to {target}): replace the link by what is needed, "
                f"{_ADVICE}"
            )
        if target in chain:
            self._note(f"{path} is left out: it is a link back to a directory that holds it ({leads})")
            return None
        return target


def _is_dir(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:  # a circle of links, or behind a directory that cannot be entered
        return False


def _entry(path: str, source: Path) -> Entry | None:
    """None for sockets, pipes and devices, which are not content, and for what went while we looked."""
    try:
        status = source.stat()
    except FileNotFoundError:
        return None
    return entry_of(path, source, status) if stat.S_ISREG(status.st_mode) else None


def why_left_out(root: Path, path: str) -> str:
    """A sentence about `path`, a file below `root` that is not among its entries: what leaves it out, and what lets it in."""
    root = root.resolve()
    ignored, parts = Ignored.at_root(root), path.split("/")
    directory, before = root, ""
    for number, name in enumerate(parts, 1):
        ignored = ignored.entering(directory, before)
        is_dir = number < len(parts)
        verdict, at = ignored.judge(before + name, is_dir=is_dir), before + name + ("/" if is_dir else "")
        if verdict is Verdict.OURS:
            return f"{OURS} leaves out {at}: take that out of it, or let it in behind that with a line !{at}"
        if verdict is Verdict.NEVER:
            return f"{at} is of a kind that never travels unless git tracks it: move the file"
        if verdict is Verdict.GIT and not ignored.takes_back:
            return f"git or a {GITS} leaves out {at}: let it in with a line !{path} in {root / OURS}"
        directory, before = directory / name, f"{before}{name}/"
    return f"git or a {GITS} leaves it out: let it in with a line !{path} at the end of {root / OURS}"


def say_notes(notes: Sequence[str], say: Callable[[str], object]) -> None:
    """The first few; the rest are counted."""
    for note in notes[:NOTES]:
        say(note)
    if len(notes) > NOTES:
        say(f"... and {len(notes) - NOTES} more like that")
