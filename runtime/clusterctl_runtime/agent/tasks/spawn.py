"""Starting one program: a session of its own, output and errors into one pipe."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from clusterctl_runtime.agent.tasks.inherited import JOB_UMASK


class CannotStart(Exception):
    """The program could not be started. `exit_code` as a shell would say it: 127 not found, 126 not to be run."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass
class Spawned:
    """A running program: `pid` is also its session and process group; `pipe` is the end to read, non-blocking."""

    pid: int
    pipe: int


def spawn(argv: list[str], env: dict[str, str], directory: str, null: int) -> Spawned:
    """`null` is an open /dev/null for its standard input. Raises CannotStart."""
    read, write = os.pipe()
    try:
        child = subprocess.Popen(
            argv, stdin=null, stdout=write, stderr=write, cwd=directory, env=env, umask=JOB_UMASK,
            start_new_session=True,
        )  # fmt: skip
    except (OSError, ValueError, IndexError) as error:
        os.close(read)
        raise _cannot_start(argv, error) from error
    finally:
        os.close(write)
    child.returncode = 0  # we reap it ourselves; without this Popen would wait for it, too
    os.set_blocking(read, False)
    return Spawned(child.pid, read)


def _cannot_start(argv: list[str], error: Exception) -> CannotStart:
    name = argv[0] if argv else ""
    if not argv:
        return CannotStart("the task has no program to run: its argv is empty", 126)
    if isinstance(error, FileNotFoundError):
        return CannotStart(f"{name}: no such program on this node (or its interpreter is missing)", 127)
    if isinstance(error, PermissionError):
        return CannotStart(
            f"{name}: not executable by this node's user: set its x bit, or run it with its interpreter", 126
        )
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return CannotStart(f"{name}: cannot be started: {reason}", 126)
