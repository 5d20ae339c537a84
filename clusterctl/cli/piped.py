"""Standard input of a command that sends a program elsewhere: a job has none, and who pipes something in is told."""

from __future__ import annotations

import atexit
import os
import select
import shutil
import stat
import sys
import tempfile
from pathlib import Path

from clusterctl.core.errors import UsageError

FROM_INPUT = "-"  # in the place of FILE.py


def refuse_input(words: str) -> None:
    """Raises UsageError where somebody has piped something in, or redirected a file of which nothing was read yet: what is left
    of a file that a loop of a shell reads is not meant for us."""
    if _is_meant_for_us():
        raise UsageError(
            f"what is piped into `{words}` does not reach the job, whose standard input is empty: give it a file in the working "
            "directory; where it is not meant for the job, as in a loop that reads lines, add `< /dev/null`"
        )


def _is_meant_for_us() -> bool:
    try:
        kind = os.fstat(0)
        if stat.S_ISREG(kind.st_mode):
            return kind.st_size > 0 and os.lseek(0, 0, os.SEEK_CUR) == 0
        return stat.S_ISFIFO(kind.st_mode) and bool(select.select([0], [], [], 0)[0]) and _has_bytes()
    except (OSError, ValueError):
        return False  # it is closed


def _has_bytes() -> bool:
    """Of a pipe that can be read: else it is at its end."""
    import fcntl
    import struct
    import termios

    (count,) = struct.unpack("i", fcntl.ioctl(0, termios.FIONREAD, b"\0" * 4))
    return count > 0


def script_from_input() -> Path:
    """The Python program on standard input, as a file that goes with this process. Raises UsageError."""
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError(
            "`-` is the program that is piped in, as in `cat job.py | clusterctl submit -`, and nothing is"
        )
    text = sys.stdin.buffer.read()
    if not text.strip():
        raise UsageError("no program came in by standard input, which `-` stands for")
    directory = Path(tempfile.mkdtemp(prefix="clusterctl-stdin-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    script = directory / "stdin.py"
    script.write_bytes(text)
    return script
