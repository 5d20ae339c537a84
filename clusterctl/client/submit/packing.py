"""A working directory as one zip archive, named by its content: the same files give the same bytes on every machine.

Entries are sorted, times are fixed, permission bits are kept. A name that is not UTF-8, for which zip has no place, is in an
extra field of its entry (`NAME_FIELD`), as its bytes.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from clusterctl.client.submit.ignore import OURS, Ignored
from clusterctl.client.submit.tree import Entry, Tree, entry_of, list_tree
from clusterctl.core.errors import UsageError

MAX_BYTES = 512 * 1024 * 1024  # of all files, and of the archive: the head takes no larger upload
NAME_FIELD = 0x6E63  # the id of our extra field; its content is the name
READS = 3  # of a file that is written to meanwhile, before it is taken as it comes
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip archive can hold
_IN_MEMORY = 8 * 1024 * 1024
_PIECE = 1 << 20
_SAMPLE = 64 * 1024  # bytes of a file that say whether it can be compressed
_LEVEL = 1  # of compression: on the way to a head, fast beats small
_KEPT_MODE = 0o170777  # the kind of file and its permissions, never setuid and its like


@dataclass
class Package:
    """A packed directory; `archive` is open for reading at its start. `digest` is the archive's SHA-256. `notes`: sentences
    about what did not travel, or not for certain as it is."""

    digest: str
    size: int
    entries: list[Entry]
    archive: IO[bytes]
    notes: list[str] = field(default_factory=list)


def pack(
    root: Path,
    *,
    without: Path | None = None,
    max_bytes: int = MAX_BYTES,
    above: bool = True,
    what: str = "the working directory",
) -> Package:
    """Packs `root` without the directory `without`; raises UsageError naming the largest entries when it is over
    `max_bytes`. `above`: rules from above `root` count, too."""
    tree = list_directory(root, without=without, max_bytes=max_bytes, above=above, what=what)
    return _write(tree, max_bytes)


def pack_group(root: Path, entries: Sequence[Entry]) -> Package:
    """Packs some of the entries of the directory `root`."""
    return _write(Tree(root, list(entries)), MAX_BYTES)


def list_file(file: Path) -> Tree:
    """One file under its own name."""
    tree = Tree(file.parent)
    try:
        tree.entries.append(entry_of(file.name, file, file.stat()))
    except OSError as error:
        raise UsageError(f"{file} cannot be packed ({error.strerror})") from error
    return tree


def list_directory(
    root: Path,
    *,
    without: Path | None = None,
    max_bytes: int = MAX_BYTES,
    above: bool = True,
    what: str = "the working directory",
) -> Tree:
    """What `pack` would put in, sorted by path."""
    root = root.resolve()
    if not root.is_dir():
        raise UsageError(f"{what} {root} is not a directory")
    tree = list_tree(root, Ignored.at_root(root, without.resolve() if without else None, above=above))
    total = sum(entry.size for entry in tree.entries)
    if total > max_bytes:
        raise UsageError(_too_large(root, tree.entries, total, max_bytes, what))
    return tree


def _write(tree: Tree, max_bytes: int) -> Package:
    archive = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115  the caller reads it
    packed: list[Entry] = []
    try:
        with zipfile.ZipFile(archive, "w") as target:
            for entry in tree.entries:
                if _add(target, entry, tree.notes.append):
                    packed.append(entry)
    except OSError as error:
        place = error.filename or tree.root
        advice = f": change its mode or name it in {OURS}" if error.filename else ""
        raise UsageError(f"{place} cannot be packed ({error.strerror or error}){advice}") from error
    size = archive.tell()
    if size > max_bytes:
        raise UsageError(_too_large(tree.root, packed, size, max_bytes))
    archive.seek(0)
    digest = hashlib.sha256()
    while block := archive.read(_PIECE):
        digest.update(block)
    archive.seek(0)
    return Package(digest.hexdigest(), size, packed, archive, tree.notes)


def _add(target: zipfile.ZipFile, entry: Entry, note: Callable[[str], None]) -> bool:
    """False when it is no file any more."""
    info = _info(entry)
    if entry.path.endswith("/"):
        target.writestr(info, b"")
        return True
    try:
        # Without waiting: what was a file when it was listed may be a pipe by now.
        source = os.open(entry.source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        note(f"{entry.path} is left out: it went while it was packed")
        return False
    with os.fdopen(source, "rb") as file:
        before = os.fstat(source)
        if not stat.S_ISREG(before.st_mode):
            note(f"{entry.path} is left out: it is no file any more")
            return False
        if before.st_size <= _IN_MEMORY:
            data, steady = _read_steady(file)
            if not _shrinks(data[:_SAMPLE]):
                info.compress_type = zipfile.ZIP_STORED
            target.writestr(info, data, compresslevel=_LEVEL)
        else:
            info._compresslevel = _LEVEL  # type: ignore[attr-defined]  # `open` has no parameter for it
            if not _shrinks(file.read(_SAMPLE)):
                info.compress_type = zipfile.ZIP_STORED
            file.seek(0)
            with target.open(info, "w", force_zip64=True) as sink:
                _copy(file, sink.write, before.st_size)
            steady = _state(os.fstat(source)) == _state(before)
    if not steady:
        note(
            f"{entry.path} was written to while it was packed: it travels as it was read, which may be of no one moment"
        )
    return True


def _shrinks(sample: bytes) -> bool:
    """Whether a file that begins like this is worth the time that packing takes: models, images and archives are not."""
    return len(zlib.compress(sample, _LEVEL)) < 0.95 * len(sample)


def _read_steady(file: IO[bytes]) -> tuple[bytes, bool]:
    """The content, and whether it stayed the same while it was read."""
    data = b""
    for _ in range(READS):
        before = os.fstat(file.fileno())
        file.seek(0)
        data = file.read(before.st_size)  # no more: somebody may be writing without end
        if _state(os.fstat(file.fileno())) == _state(before):
            return data, True
    return data, False


def _state(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _copy(source: IO[bytes], write: Callable[[bytes], object], size: int) -> None:
    while size > 0 and (data := source.read(min(_PIECE, size))):
        write(data)
        size -= len(data)


def _info(entry: Entry) -> zipfile.ZipInfo:
    name = os.fsencode(entry.path)
    text = name.decode(errors="backslashreplace")
    info = zipfile.ZipInfo(text, _EPOCH)
    if text.encode() != name:
        info.extra = struct.pack("<HH", NAME_FIELD, len(name)) + name
    info.create_system = 3  # Unix: else the permission bits mean nothing
    info.external_attr = (entry.mode & _KEPT_MODE) << 16
    info.compress_type = zipfile.ZIP_DEFLATED if entry.size > 64 else zipfile.ZIP_STORED
    return info


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
        f"Largest: {names}. Name what the nodes do not need in {OURS}, or keep data in storage that every node mounts "
        "(`mounts` of the spec, docs/storage.md)"
    )
