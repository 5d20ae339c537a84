"""What this node has mounted, on disk before it is mounted, and taking it away again: by the agent at its end, or by whoever
finds the directory of an agent that was killed.

What is in the record is ours: it was written when nothing was mounted at that place. Nothing else is ever unmounted.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clusterctl_runtime.agent.preparing.removal import remove_tree
from clusterctl_runtime.agent.tasks.processes import read_process
from clusterctl_runtime.files.mount_table import Mounted, detach, mounted_at, run_briefly, unmount_commands
from clusterctl_runtime.files.private import write_private

log = logging.getLogger(__name__)
NAME, ROOM = "mounts.json", "mounting"  # in the node's directory; ROOM has the programs' caches and logs
UNMOUNT_SECONDS = 20.0  # until it is done lazily
FLUSH_SECONDS = 60.0  # for what is to be written back
ENDING_SECONDS = 10.0  # for a program whose mount is gone
_PAUSE = 0.1

Entry = dict[str, Any]


class Record:
    """By place: {"from", "source", "type", "told" (the document's digest), "made" (the directory), "pid", "cache", "link"}.
    "source" and "type" are what the kernel shows, "" until it does."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / NAME
        self.entries: dict[str, Entry] = read_record(directory)

    def keep(self, place: str, **facts: Any) -> None:
        self.entries[place] = {**self.entries.get(place, {}), **facts}
        write_private(self._file, json.dumps(self.entries))

    def forget(self, place: str) -> None:
        if self.entries.pop(place, None) is not None:
            write_private(self._file, json.dumps(self.entries))

    def is_ours(self, place: str, seen: Mounted) -> bool:
        """What is there now, and not only what was there once."""
        entry = self.entries.get(place)
        return entry is not None and (entry.get("source") or seen.source) == seen.source


def read_record(directory: Path) -> dict[str, Entry]:
    try:
        return json.loads((directory / NAME).read_text())
    except (OSError, ValueError):
        return {}


def release_all(directory: Path) -> list[str]:
    """Unmounts all that the node in this directory has mounted, lazily after a deadline. Returns a sentence for whatever is
    still mounted, or was not written back. Blocks; idempotent."""
    record = Record(directory)
    return [text for place in reversed(list(record.entries)) for text in release(record, place, ours_only=True)]


def release(record: Record, place: str, *, ours_only: bool = False, lazy: bool = True) -> Iterator[str]:
    """One of them. Without `lazy` it stays where it is in use, and that is the sentence. Blocks."""
    entry = record.entries[place]
    yield from _flush(entry)
    seen = mounted_at(place)
    if seen is not None and record.is_ours(place, seen):
        said = _unmount(seen)
        if mounted_at(place) is not None and (not lazy or not detach(seen)):
            yield f"{entry.get('from')} at {place} cannot be unmounted: {said}"
            return
    _end_program(entry)
    if entry.get("link"):
        Path(place).unlink(missing_ok=True)
    if entry.get("made"):
        with contextlib.suppress(OSError):  # somebody has put something there
            Path(place).rmdir()
    if entry.get("cache") and not unwritten(entry):
        remove_tree(Path(entry["cache"]))
    record.forget(place)


def _unmount(seen: Mounted) -> str:
    """What the last command said, "" where one succeeded."""
    said = ""
    for argv in unmount_commands(seen, lazy=False):
        code, told = run_briefly(argv, UNMOUNT_SECONDS)
        if code == 0:
            return ""
        said = said if code == 127 else told or f"{argv[0]} ended with {code}"
    return said


def unwritten(entry: Entry) -> list[str]:
    """The files below a mount that were closed and are not written back yet, as rclone's own notes have them."""
    notes = Path(entry["cache"]) / "vfsMeta" if entry.get("dirty") and entry.get("cache") else None
    found: list[str] = []
    for path in sorted(notes.rglob("*")) if notes is not None else ():
        with contextlib.suppress(OSError, ValueError):
            if path.is_file() and json.loads(path.read_bytes()).get("Dirty"):
                found.append(path.name)
    return found


def _flush(entry: Entry) -> Iterator[str]:
    """Waits until all is written back, as long as its program lives."""
    deadline = time.monotonic() + FLUSH_SECONDS
    while (left := unwritten(entry)) and time.monotonic() < deadline and _is_program(entry):
        time.sleep(_PAUSE)
    if left:
        yield (
            f"{len(left)} files of {entry.get('from')} are not written back ({', '.join(left[:5])}): they are in "
            f"{entry['cache']} for as long as that is there"
        )


def _is_program(entry: Entry) -> bool:
    """Whether the process of its pid is still the one that was started: a pid may be another's by now."""
    process = read_process(int(entry.get("pid") or 0))
    return process is not None and not process.zombie and str(process.started) == entry.get("started")


def started_at(pid: int) -> str:
    """When a process began, in ticks since the boot: with its pid it is one process for ever. "" for none."""
    process = read_process(pid)
    return str(process.started) if process is not None else ""


def _end_program(entry: Entry) -> None:
    """It ends by itself when its mount is gone; one that does not is asked, then killed."""
    for number in (0, signal.SIGTERM, signal.SIGKILL):
        if not _is_program(entry):
            return
        with contextlib.suppress(OSError):
            os.kill(int(entry["pid"]), number)
        deadline = time.monotonic() + ENDING_SECONDS / 2
        while _is_program(entry) and time.monotonic() < deadline:
            time.sleep(_PAUSE)
