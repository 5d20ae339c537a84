"""How much there is in a directory."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def size_of_files(root: Path) -> int:
    """Bytes of all files below it; what goes away meanwhile counts as nothing."""
    size, todo = 0, [str(root)]
    while todo:
        with contextlib.suppress(OSError), os.scandir(todo.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
                    continue
                with contextlib.suppress(OSError):
                    size += entry.stat(follow_symlinks=False).st_size
    return size
