"""Which archive a group of files was packed into last time, so that files that have not changed are not read again.

A group is known by the state of each of its files (size, times, inode). A file that changes gets another time of change, unless
that falls into the same tick of the clock as the one before: so a group with a file that was changed just before it was looked
at is not noted down.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clusterctl_runtime.files.manifest import Archive
from clusterctl_runtime.files.private import make_private_dir, write_private

from clusterctl.client.submit.tree import Entry

MOST = 20_000  # groups; those that were not asked for longest go first
SETTLED_SECONDS = 2.0  # between a file's last change and the look at it: the coarsest clock of a file system (FAT's)
_FORMAT = 1  # of archives: with another one, none of those is known


class KnownArchives:
    """Kept in `path`. Where that cannot be read or written nothing is known, and all is as it would be the first time."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._archives: dict[str, list[Any]] = _read(path)
        self._changed = False

    def find(self, group: Sequence[Entry]) -> Archive | None:
        """The archive with exactly these files."""
        key = _key(group)
        try:
            digest, size, _ = self._archives[key]
            self._archives[key] = [str(digest), int(size), int(time.time())]
            return Archive(str(digest), int(size))
        except (KeyError, ValueError, TypeError):
            return None

    def note(self, group: Sequence[Entry], looked: float, archive: Archive) -> None:
        """`group`, as it was found by a look that began at `looked` (unix seconds), was packed into `archive`."""
        if all(entry.changed + SETTLED_SECONDS <= looked for entry in group):
            self._archives[_key(group)] = [archive.digest, archive.size, int(time.time())]
            self._changed = True

    def save(self) -> None:
        """Of two processes that save at one time, one is forgotten: its files are read once more."""
        if self._path is None or not self._changed:
            return
        kept = sorted(self._archives.items(), key=lambda item: item[1][2])[-MOST:]
        try:
            make_private_dir(self._path.parent)
            write_private(self._path, json.dumps(dict(kept), separators=(",", ":")))
        except OSError:
            return


def _key(group: Sequence[Entry]) -> str:
    state = [_FORMAT, [(entry.path, str(entry.source), entry.size, entry.mode, entry.stamp) for entry in group]]
    return hashlib.sha256(json.dumps(state, separators=(",", ":")).encode()).hexdigest()


def _read(path: Path | None) -> dict[str, list[Any]]:
    try:
        known = json.loads(path.read_text()) if path else {}
    except (OSError, ValueError):
        return {}
    return {key: value for key, value in known.items() if _is_known(value)} if isinstance(known, dict) else {}


def _is_known(value: Any) -> bool:
    return isinstance(value, list) and [type(part) for part in value] == [str, int, int]
