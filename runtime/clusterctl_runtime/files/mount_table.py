"""What is mounted where, as the kernel says, and taking it out of the way before a directory is removed.

Standard library only. A place on a network may hang: nothing here looks into a mount, its name in the kernel's table is enough.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TABLE = Path("/proc/self/mountinfo")
DETACH_SECONDS = 20.0
_ESCAPED = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True)
class Mounted:
    """One line of the table. `source` is as the kernel has it: "10.0.0.5:/export", a device, whatever a program says."""

    path: str
    type: str
    source: str
    read_only: bool

    @property
    def is_fuse(self) -> bool:
        return self.type == "fuse" or self.type.startswith("fuse.")


def read_table(path: Path = TABLE) -> list[Mounted]:
    """In the order of the mounts: of two at one path the later one is seen. Empty where the system has no such table."""
    try:
        data = path.read_bytes()
    except OSError:
        return []
    return [found for line in data.splitlines() if (found := _parsed(line))]


def _parsed(line: bytes) -> Mounted | None:
    """proc(5): id, parent, device, root, place, options, tags ..., "-", type, source, options of the file system."""
    before, dash, after = line.partition(b" - ")
    fields, rest = before.split(b" "), after.split(b" ")
    if not dash or len(fields) < 6 or len(rest) < 2:
        return None
    options = fields[5].split(b",") + (rest[2].split(b",") if len(rest) > 2 else [])
    return Mounted(_text(fields[4]), rest[0].decode(errors="replace"), _text(rest[1]), b"ro" in options)


def _text(field: bytes) -> str:
    return os.fsdecode(_ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), field))


def mounted_at(path: str | Path, table: Sequence[Mounted] | None = None) -> Mounted | None:
    """What is seen at that very path, None where nothing is mounted. Links in the path above it are followed."""
    real = _real(path)
    return next((one for one in reversed(read_table() if table is None else table) if one.path == real), None)


def mounts_below(path: str | Path, table: Sequence[Mounted] | None = None) -> list[Mounted]:
    """What is mounted at `path` or below it, the deepest first."""
    real = _real(path)
    under = real.rstrip("/") + "/"
    found = [
        one for one in (read_table() if table is None else table) if one.path == real or one.path.startswith(under)
    ]
    return sorted(found, key=lambda one: one.path.count("/"), reverse=True)


def _real(path: str | Path) -> str:
    """With the links above the last name followed: to follow that one could mean to ask a server that hangs."""
    given = Path(path).absolute()
    return str(given.parent.resolve() / given.name)


def as_root() -> list[str]:
    """What goes before a command that only root may run."""
    return [] if os.geteuid() == 0 else ["sudo", "-n"]


def unmount_commands(mounted: Mounted, lazy: bool) -> list[list[str]]:
    """The ways to unmount it, the one with the fewest rights first. Lazily: at once out of sight, whoever still uses it, and
    without a word to a server that may not answer."""
    own = [[program, "-uz" if lazy else "-u", mounted.path] for program in ("fusermount3", "fusermount")]
    root = [*as_root(), "umount", *(["-c", "-i", "-l"] if lazy else []), mounted.path]
    return [*(own if mounted.is_fuse else []), root]


def run_briefly(argv: Sequence[str], seconds: float) -> tuple[int | None, str]:
    """(exit code, what it printed on one line); None for what did not end in time, which is killed and not waited for: what hangs
    in a file system does not even end then. 127 for a program that is not there. Blocks."""
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/"
            )
        except OSError as error:
            return 127, f"{argv[0]}: {error.strerror}"
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            return None, f"{argv[0]} did not end within {seconds:g} s"
        output.seek(0)
        return code, " ".join(output.read(2000).decode(errors="replace").split())


def detach(mounted: Mounted) -> bool:
    """Takes it out of sight, whoever uses it and whether its server answers or not; removes nothing of it. Blocks."""
    for argv in unmount_commands(mounted, lazy=True):
        run_briefly(argv, DETACH_SECONDS)
        if mounted not in mounts_below(mounted.path):
            return True
    return False


def detach_below(path: str | Path) -> list[str]:
    """Takes all that is mounted at `path` or below it out of sight; returns the places where that failed: whoever is about to
    remove the directory must not, then. Blocks."""
    return [one.path for one in mounts_below(path) if not detach(one)]
