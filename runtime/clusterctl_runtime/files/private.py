"""Files that only their owner may read, whatever the umask says, and that are replaced in one step.

Whoever dies half-way, or finds the disk full, leaves the old content. What has returned is on disk, the file as well as its name.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

PRIVATE = 0o600
_NOT_TO_BE_HAD = frozenset({errno.EINVAL, errno.ENOTSUP})  # some network file systems know no fsync of a directory


def make_private_dir(path: Path) -> Path:
    """Makes `path` (and missing parents) with mode 0700; an existing directory of ours is narrowed to it."""
    missing = [path]
    while not missing[-1].parent.exists():
        missing.append(missing[-1].parent)
    for directory in reversed(missing):
        directory.mkdir(mode=0o700, exist_ok=True)
    path.chmod(0o700)
    return path


def write_private(path: Path, content: str | bytes, *, mode: int = PRIVATE) -> None:
    """Replaces `path` with a file that has this content (text as UTF-8); raises OSError, and the old one is still there."""
    with replacing(path, mode=mode) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def replacing(path: Path, *, mode: int = PRIVATE) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path` when the block ends well."""
    with part_of(path, mode=mode) as part:
        with part.open("r+b") as file:
            yield file
        put_in_place(part, path)


@contextlib.contextmanager
def part_of(path: Path, *, mode: int = PRIVATE) -> Iterator[Path]:
    """A new empty file beside `path`, under a name that nobody else uses. It is removed at the end of the block, unless it
    was moved by then."""
    part = path.with_name(f".{path.name[:80]}.{os.urandom(6).hex()}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode & PRIVATE)
    try:
        try:
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)
        yield part
    finally:
        part.unlink(missing_ok=True)


def put_in_place(part: Path, path: Path) -> None:
    """Gives `part` the name `path`, of the same directory, when its content is on disk; returns when the name is, too."""
    sync(part)
    part.replace(path)
    sync_directory(path.parent)


def sync(path: Path) -> None:
    """Returns when the content of this file is on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Returns when the names in this directory are on disk, as far as its file system can say."""
    try:
        sync(path)
    except OSError as error:
        if error.errno not in _NOT_TO_BE_HAD:
            raise
