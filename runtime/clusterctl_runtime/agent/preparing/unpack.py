"""Unpacking what a stranger may have packed: a zip of regular files and directories, and nothing else.

The target is a fresh directory of ours. No link is ever made in it and every file is created new (O_EXCL, O_NOFOLLOW),
so that a name without `..` cannot lead outside. What an archive claims about its sizes is not believed: bytes are
counted. A name is bytes, as the file system has it: whatever it holds but "/" and NUL is part of the name.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

MAX_ENTRIES = 100_000
MAX_BYTES = 4 * 1024**3
MAX_DEPTH = 256  # directories in each other
NAME_FIELD = 0x6E63  # an extra field of an entry: its name, where that is not UTF-8
MAX_DIRECTORY = 32 * 1024**2  # of the archive's own table of contents
_BUFFER = 256 * 1024


class UnpackError(Exception):
    """The archive is not one of ours; the message names the entry."""


@dataclass
class Room:
    """What may still be unpacked into one target."""

    entries: int = MAX_ENTRIES
    bytes: int = MAX_BYTES


def unpack(archive: Path, target: Path, room: Room | None = None) -> None:
    """Unpacks `archive` into the directory `target`, which is empty or has what other archives of the package brought; `room`, by
    default that of one package, gets less. Raises UnpackError, or OSError of the file system."""
    room = room or Room()
    _check_size_of_contents(archive, room.entries)
    try:
        with zipfile.ZipFile(archive) as source:
            entries = source.infolist()
            if len(entries) > room.entries:
                raise UnpackError(f"it has {len(entries)} entries, more than {room.entries}")
            room.entries -= len(entries)
            for entry in entries:
                room.bytes = _unpack_entry(source, entry, target, room.bytes)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeError) as error:
        raise UnpackError(f"it is not an intact zip archive ({error})") from error


def _unpack_entry(source: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, left: int) -> int:
    """Writes one entry; returns how many bytes may still follow."""
    parts = _parts(_name(entry))
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if entry.is_dir():
        if kind not in (0, stat.S_IFDIR):
            raise UnpackError(f"{entry.filename!r} is neither a file nor a directory")
        _make_directory(target, parts, entry.filename)
        return left
    if kind not in (0, stat.S_IFREG):
        raise UnpackError(f"{entry.filename!r} is neither a file nor a directory")
    if entry.flag_bits & 0x1:
        raise UnpackError(f"{entry.filename!r} is encrypted")
    _make_directory(target, parts[:-1], entry.filename)
    path = _join(target, parts)
    mode = 0o700 if (entry.external_attr >> 16) & 0o100 else 0o600
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    except (FileExistsError, IsADirectoryError) as error:
        raise UnpackError(f"{entry.filename!r} is there twice") from error
    with os.fdopen(fd, "wb") as file, source.open(entry) as content:
        while data := content.read(_BUFFER):
            left -= len(data)
            if left < 0:
                raise UnpackError(f"it unpacks to more than the allowed size (reached at {entry.filename!r})")
            file.write(data)
    return left


def _name(entry: zipfile.ZipInfo) -> bytes:
    """The entry's own name, or the one in its extra field."""
    extra = entry.extra
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        if kind == NAME_FIELD:
            return extra[4 : 4 + size]
        extra = extra[4 + size :]
    return entry.filename.encode()


def _parts(name: bytes) -> list[bytes]:
    """The steps of a relative path inside the target."""
    parts = name.removesuffix(b"/").split(b"/")
    if any(part in (b"", b".", b"..") or b"\0" in part for part in parts) or len(parts) > MAX_DEPTH + 1:
        shown = name[:200].decode(errors="backslashreplace")
        raise UnpackError(f"the name {shown!r} leads outside, is too deep, or is not a plain relative path")
    return parts


def _join(target: Path, parts: list[bytes]) -> bytes:
    return os.path.join(os.fsencode(target), *parts)  # noqa: PTH118  a Path is text


def _make_directory(target: Path, parts: list[bytes], name: str) -> None:
    for count in range(1, len(parts) + 1):
        path = _join(target, parts[:count])
        try:
            os.mkdir(path, 0o700)  # noqa: PTH102  a Path is text
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise UnpackError(f"{name!r} runs through a file") from None


def _check_size_of_contents(archive: Path, max_entries: int) -> None:
    """Reads the end record by itself: zipfile loads the whole table of contents before anyone can look at it."""
    with archive.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - 65557)
        file.seek(start)
        tail = file.read()
        at = tail.rfind(b"PK\5\6")
        if at < 0 or len(tail) - at < 22:
            raise UnpackError("it is not an intact zip archive (no end record)")
        entries, directory = struct.unpack_from("<HI", tail, at + 10)
        locator = tail[at - 20 : at] if at >= 20 else b""
        if locator[:4] == b"PK\6\7":
            file.seek(struct.unpack_from("<Q", locator, 8)[0])
            record = file.read(56)
            if len(record) == 56 and record[:4] == b"PK\6\6":
                entries, directory = struct.unpack_from("<QQ", record, 32)
    if entries > max_entries:
        raise UnpackError(f"it has {entries} entries, more than {max_entries}")
    if directory > MAX_DIRECTORY:
        raise UnpackError(f"its table of contents is {directory} bytes, more than {MAX_DIRECTORY}")
