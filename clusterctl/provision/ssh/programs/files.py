"""Copies files where there is no SFTP: a tar archive comes by stdin or goes by stdout. Standard library only; sent whole.

The first line that it reads is JSON: {"do": "put", "target", "name"} or {"do": "get", "source"}. It answers with a line, which is
empty where all is well, and else says what is not: to "put" after the archive, to "get" before it. An archive ends by its own
mark, since the end of stdin may not come.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import tarfile
from pathlib import Path
from typing import IO

BLOCK = tarfile.RECORDSIZE  # what an archive is a multiple of, so that nobody waits for more than there is


def put(request: dict[str, str], source: IO[bytes]) -> None:
    """As `cp` does: into a directory that exists, else under the target's own name. All of it belongs to this user."""
    target = Path(request["target"])
    into, name = (target, request["name"]) if target.is_dir() else (target.parent, target.name)
    with tarfile.open(fileobj=source, mode="r|", bufsize=BLOCK) as archive:
        for entry in archive:
            entry.name = "/".join([name, *entry.name.split("/")[1:]])
            entry.uid, entry.gid, entry.uname, entry.gname = os.getuid(), os.getgid(), "", ""
            archive.extract(entry, into, set_attrs=not entry.issym())


def get(request: dict[str, str], source: IO[bytes]) -> None:
    """Archived under its own last name."""
    path = Path(request["source"])
    path.stat()
    if not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))
    sys.stdout.buffer.write(b"\n")
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|", bufsize=BLOCK, dereference=False) as archive:
        archive.add(path.resolve(), arcname=path.name or "root")
    sys.stdout.buffer.flush()


def main() -> None:
    """A failure in the middle of an archive that goes out ends it before its mark, which is seen there."""
    source = sys.stdin.buffer
    request = json.loads(source.readline())
    begun = request["do"] == "get"
    try:
        (get if begun else put)(request, source)
        answer = b"" if begun else b"\n"
    except (OSError, tarfile.TarError) as error:
        words = getattr(error, "strerror", None) or str(error) or type(error).__name__
        answer = (
            f"{words} ({getattr(error, 'filename', None) or request.get('target') or request.get('source')})\n".encode()
        )
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
