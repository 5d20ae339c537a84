"""A working directory as one zip archive, named by its content: the same files give the same bytes on every machine.

Entries are sorted, times are fixed, permission bits are kept. Symbolic links that stay inside become what they point
to; links that lead outside are refused, since their targets would travel unseen.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from clusterctl.client.ignore import Ignored
from clusterctl.core.errors import UsageError

MAX_BYTES = 512 * 1024 * 1024  # of all files, and of the archive: the head takes no larger upload
MAX_FILES = 100_000
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip archive can hold
_IN_MEMORY = 8 * 1024 * 1024
_KEPT_MODE = 0o170777  # the kind of file and its permissions, never setuid and its like


@dataclass(frozen=True)
class Entry:
    """One file (or empty directory: `path` ends in "/") of the archive. `size` in bytes, `mode` as in st_mode."""

    path: str
    source: Path
    size: int
    mode: int


@dataclass
class Package:
    """A packed directory; `archive` is open for reading at its start. `digest` is the archive's SHA-256."""

    digest: str
    size: int
    entries: list[Entry]
    archive: IO[bytes]


def pack(
    root: Path,
    *,
    without: Path | None = None,
    max_bytes: int = MAX_BYTES,
    rules: Ignored | None = None,
    what: str = "the working directory",
) -> Package:
    """Packs `root` without the directory `without`; raises UsageError naming the largest entries when it is over
    `max_bytes`. `rules`: what is left out before its own ignore files are read, by default what git reads above it."""
    entries = list_entries(root, without=without, max_bytes=max_bytes, rules=rules, what=what)
    return _write(entries, max_bytes, root)


def pack_file(file: Path) -> Package:
    """Packs one file under its own name."""
    return _write([_entry(file.name, file)], MAX_BYTES, file.parent)


def list_entries(
    root: Path,
    *,
    without: Path | None = None,
    max_bytes: int = MAX_BYTES,
    rules: Ignored | None = None,
    what: str = "the working directory",
) -> list[Entry]:
    """What `pack` would put in, sorted by path."""
    root = root.resolve()
    if not root.is_dir():
        raise UsageError(f"{what} {root} is not a directory")
    found: list[Entry] = []
    total = 0
    ignored = rules or Ignored.at_root(root, without.resolve() if without else None)
    for entry in _walk(root, root, "", ignored, (root,)):
        found.append(entry)
        total += entry.size
        if len(found) > MAX_FILES:
            raise UsageError(
                f"{root} has more than {MAX_FILES:,} files: choose a smaller --working-dir, or name what the job does "
                "not need in .clusterctlignore"
            )
    if total > max_bytes:
        raise UsageError(_too_large(root, found, total, max_bytes, what))
    return sorted(found, key=lambda entry: entry.path)


def _walk(root: Path, directory: Path, path: str, ignored: Ignored, chain: tuple[Path, ...]) -> Iterator[Entry]:
    """Entries below `directory`, which is `path` in the archive. `chain`: the real directories we are inside of."""
    try:
        ignored = ignored.entering(directory, path)
        items = sorted(os.scandir(directory), key=lambda item: item.name)
    except OSError as error:
        raise UsageError(
            f"{directory} cannot be read ({error.strerror}): change its mode or name it in .clusterctlignore"
        ) from error
    empty = True
    for item in items:
        inner = path + item.name
        is_dir = item.is_dir()
        if ignored.covers(inner, is_dir=is_dir) or (is_dir and (Path(item.path) / "pyvenv.cfg").is_file()):
            continue
        target = _inside(root, Path(item.path), chain) if item.is_symlink() else Path(item.path)
        if target == ignored.without:
            continue
        if is_dir:
            empty = False
            yield from _walk(root, target, f"{inner}/", ignored, (*chain, target))
        elif target.is_file():  # sockets, pipes and devices are not content
            empty = False
            yield _entry(inner, target)
    if empty and path:
        yield Entry(path, directory, 0, stat.S_IFDIR | 0o755)


def _inside(root: Path, link: Path, chain: tuple[Path, ...]) -> Path:
    """What a symbolic link stands for, when that lies inside `root` and is no directory that we are already in."""
    advice = "replace the link by what is needed, or name it in .clusterctlignore"
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise UsageError(f"the symbolic link {link} leads nowhere ({link.readlink()}): {advice}") from error
    if not target.is_relative_to(root):
        raise UsageError(f"the symbolic link {link} leads out of {root} (to {target}): {advice}")
    if target in chain:
        raise UsageError(f"the symbolic link {link} leads back to {target}, which contains it: {advice}")
    return target


def _entry(path: str, source: Path) -> Entry:
    status = source.stat()
    return Entry(path, source, status.st_size, status.st_mode)


def _write(entries: list[Entry], max_bytes: int, root: Path) -> Package:
    archive = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115  the caller reads it
    try:
        with zipfile.ZipFile(archive, "w") as target:
            for entry in entries:
                _add(target, entry)
    except OSError as error:
        raise UsageError(f"{error.filename or root} cannot be packed ({error.strerror or error})") from error
    size = archive.tell()
    if size > max_bytes:
        raise UsageError(_too_large(root, entries, size, max_bytes))
    archive.seek(0)
    digest = hashlib.sha256()
    while block := archive.read(1 << 20):
        digest.update(block)
    archive.seek(0)
    return Package(digest.hexdigest(), size, entries, archive)


def _add(target: zipfile.ZipFile, entry: Entry) -> None:
    info = zipfile.ZipInfo(entry.path, _EPOCH)
    info.create_system = 3  # Unix: else the permission bits mean nothing
    info.external_attr = (entry.mode & _KEPT_MODE) << 16
    info.compress_type = zipfile.ZIP_DEFLATED if entry.size > 64 else zipfile.ZIP_STORED
    if entry.size <= _IN_MEMORY:
        # Level 1: on the way to a head, fast beats small.
        target.writestr(info, b"" if entry.path.endswith("/") else entry.source.read_bytes(), compresslevel=1)
        return
    with entry.source.open("rb") as source, target.open(info, "w") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)


def _too_large(root: Path, entries: list[Entry], total: int, limit: int, what: str = "the working directory") -> str:
    """Names the five largest entries directly below `root`, with what is in them."""
    sums: dict[str, int] = {}
    for entry in entries:
        top, slash, _ = entry.path.partition("/")
        sums[top + slash] = sums.get(top + slash, 0) + entry.size
    largest = sorted(sums.items(), key=lambda pair: (-pair[1], pair[0]))[:5]
    names = ", ".join(f"{name} ({size / 2**20:,.1f} MiB)" for name, size in largest)
    return (
        f"{what} {root} is {total / 2**20:,.1f} MiB, over the limit of {limit / 2**20:,.0f} MiB. "
        f"Largest: {names}. Name what the nodes do not need in .clusterctlignore, or keep data in shared storage"
    )
