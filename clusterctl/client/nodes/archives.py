"""Files on their way to a node and from it, as a tar archive."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO

IN_MEMORY = 16 * 2**20  # bytes of a copy that are kept in memory; more goes to a file
CHUNK = 2**20


def pack(source: Path, name: str, owner: tuple[int, int], into: IO[bytes]) -> None:
    """A tar archive of regular files, directories and links, all of one owner."""

    def owned(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid, entry.gid = owner
        entry.uname = entry.gname = ""
        return entry

    with tarfile.open(fileobj=into, mode="w|") as archive:
        archive.add(source, arcname=name, filter=owned)


def unpack(archive: tarfile.TarFile, target: Path) -> bool:
    """Regular files and directories only. Names come from the node: none of them may lead out of `target`. False when there
    was nothing to unpack."""
    found = False
    for entry in archive:
        inside = PurePosixPath(entry.name).parts[1:]
        if ".." in inside or not (entry.isfile() or entry.isdir()):
            continue
        path = target.joinpath(*inside)
        found = True
        if entry.isdir():
            path.mkdir(parents=True, exist_ok=True)
            continue
        data = archive.extractfile(entry)
        assert data is not None
        with path.open("wb") as file:
            shutil.copyfileobj(data, file, CHUNK)
        path.chmod(entry.mode & 0o777)
    return found
