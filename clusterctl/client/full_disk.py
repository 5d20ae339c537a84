"""Which disk of this machine is full, for those who could not write: the error itself often names no file."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_LEAST = 1024 * 1024  # bytes: with less than that a disk counts as full, since files of some bytes may still fit


def full_disk(paths: Iterable[Path]) -> str:
    """A sentence about the first of these paths whose disk has no room, "" where all have some."""
    for path in paths:
        place = next((one for one in (path, *path.parents) if one.exists()), Path("/"))
        try:
            usage, names = shutil.disk_usage(place), os.statvfs(place)
        except OSError:
            continue
        if usage.free < _LEAST:
            return f"the disk of {place} on this machine is full ({usage.free / 1024:.0f} KiB left): free some of it"
        if names.f_files and not names.f_favail:
            return f"the disk of {place} on this machine takes no more files (no inodes are left): remove some"
    return ""
