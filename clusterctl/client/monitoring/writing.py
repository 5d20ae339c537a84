"""Putting files of ours where a user wants them: none of somebody else's is replaced unasked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from clusterctl_runtime.files.private import write_private

from clusterctl.core.errors import ClusterctlError, UsageError

PUBLIC, SECRET = 0o644, 0o600


def write_all(directory: Path, texts: Mapping[str, str], secret: str, *, force: bool) -> list[Path]:
    """Writes `texts` (name below `directory` -> text), of which the one named `secret` is for its owner alone, and returns the
    paths that are written anew. Raises UsageError, and writes nothing, where files that differ are in the way, unless `force`."""
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"{directory} is a file: name a directory")
    different = [name for name, text in texts.items() if _is_other(directory / name, text)]
    in_the_way = [str(directory / name) for name in different if os.path.lexists(directory / name)]
    if in_the_way and not force:
        raise UsageError(
            f"{' and '.join(in_the_way)} would be overwritten: nothing was written; say --force, or name another directory"
        )
    try:
        for name in different:
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_private(path, texts[name], mode=SECRET if name == secret else PUBLIC)
    except OSError as error:
        raise ClusterctlError(f"cannot write into {directory}: {error.strerror}") from error
    return [directory / name for name in different]


def _is_other(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") != text
    except PermissionError:  # the token, which was given to the user that Prometheus runs as: it does not change
        return False
    except (OSError, UnicodeDecodeError):
        return True
