"""A local node on disk: its directory, its record, its agent's process.

STATE/nodes/TOKEN/        0700; made first, so that a crash at any later point is found and finished by the same
token instance.json         who it is: id, tags, offer, short directory
    bootstrap.json 0600   what the agent starts from
    alive                 locked by the agent for as long as it lives (the lock is inherited, not taken by it)
    pid                   the agent's process id, once it was started
    agent.log             what it printed
    stopped               it is stopped, and may be started again
STATE/ended/TOKEN         this token has had its instance: it never gets another one
/tmp/cctl-XXXXXXXXXX/     the node's own directory (`directory` in the bootstrap): the agent, its work and the
engine live here, because Unix sockets bear no path over 107 characters
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusterctl_runtime.files.lock import LockHeld, take, wait_for
from clusterctl_runtime.files.mount_table import detach_below, run_briefly
from clusterctl_runtime.files.private import sync_directory, write_private

from clusterctl.core.errors import ProviderError
from clusterctl_providers.local.processes import MARK, RECORD, belongs_to, marked_processes

MOUNTS = "CLUSTERCTL_MOUNTS"  # what comes before the places of mounts: a node keeps to its own directory
RELEASE_SECONDS = 150.0  # for an agent's successor to unmount what that left
LOG_TAIL = 64 * 1024  # bytes of agent.log that are shown


@dataclass(frozen=True)
class LocalNode:
    """The paths of one node; `record` is instance.json."""

    path: Path
    record: Mapping[str, Any]

    @property
    def id(self) -> str:
        return str(self.record["id"])

    @property
    def short_dir(self) -> Path:
        return Path(self.record["short_dir"])

    def pid(self) -> int:
        """The agent's process id, 0 before it was started."""
        try:
            return int((self.path / "pid").read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def runs(self) -> bool:
        """Whether the process of its pid bears its mark: a pid may be another's by now."""
        pid = self.pid()
        return bool(pid) and belongs_to(pid, self.id)

    def is_stopped(self) -> bool:
        """Whether it was told to stop, until it is started again; its agent may still run for a moment."""
        return (self.path / "stopped").exists()

    def log_tail(self) -> str:
        """The last LOG_TAIL bytes of its agent's log, "" before there is one."""
        try:
            with (self.path / "agent.log").open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_TAIL))
                return file.read(LOG_TAIL).decode(errors="replace")
        except FileNotFoundError:
            return ""


@contextlib.contextmanager
def locked(state: Path) -> Iterator[None]:
    """One process at a time changes this cluster's nodes; the lock goes when its holder dies. What the disk does not let us
    do is a ProviderError."""
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        with wait_for(state / "lock"):
            yield
    except OSError as error:
        raise ProviderError(
            f"the local nodes below {state} could not be changed: {error}; mend that directory"
        ) from error


def nodes_on_disk(state: Path) -> list[LocalNode]:
    """Every node whose record is written, by directory name. One without a record was never started: it is nothing
    yet."""
    try:
        paths = sorted((state / "nodes").iterdir())
    except FileNotFoundError:
        return []
    nodes: list[LocalNode] = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, ValueError):
            nodes.append(LocalNode(path, json.loads((path / "instance.json").read_text())))
    return nodes


def has_ended(state: Path, token: str) -> bool:
    """Whether the token is used up, by `mark_ended`."""
    return (state / "ended" / token).exists()


def mark_ended(state: Path, token: str) -> None:
    """Written before anything is ended: from here on the token is used up, whatever happens."""
    (state / "ended").mkdir(exist_ok=True, mode=0o700)
    (state / "ended" / token).touch(mode=0o600)
    sync_directory(state / "ended")


def write_node(state: Path, token: str, record: Mapping[str, Any], bootstrap: Mapping[str, Any]) -> LocalNode:
    """Makes what is missing of a node's record and directories. The record comes first: from then on the node is listed,
    and all that it leaves behind is known."""
    path = state / "nodes" / token
    path.parent.mkdir(exist_ok=True, mode=0o700)
    path.mkdir(exist_ok=True, mode=0o700)
    known = path / "instance.json"
    if not known.exists():
        write_private(known, json.dumps(record))
    node = LocalNode(path, json.loads(known.read_text()))
    if not node.pid():
        _make_short_dir(node.short_dir)
        places = {"directory": str(node.short_dir), "disk": str(path)}
        write_private(path / "bootstrap.json", json.dumps({**bootstrap, **places}))
    return node


def start_agent(node: LocalNode, argv: Sequence[str], extra_env: Mapping[str, str]) -> None:
    """Starts the node's agent unless it runs. Call it under `locked`. The child inherits the lock on `alive` from the
    instant of the fork on, so that a crash between fork and the note of its pid cannot lead to a second agent."""
    try:
        alive = take(node.path / "alive")
    except LockHeld:
        _note_running_agent(node)
        return
    with alive:
        if node.pid():
            return  # it ran and ended: a new one needs a new token
        log = os.open(node.path / "agent.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            child = subprocess.Popen(
                [*argv, "--bootstrap", str(node.path / "bootstrap.json")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=node.short_dir,
                env={
                    **os.environ,
                    **extra_env,
                    MARK: node.id,
                    RECORD: str(node.path),
                    MOUNTS: str(node.short_dir / "mounts"),
                },
                start_new_session=True,
                pass_fds=(alive.fileno(),),
            )
        finally:
            os.close(log)
        write_private(node.path / "pid", str(child.pid))
        _CHILDREN[child.pid] = child


def release_mounts(node: LocalNode, argv: Sequence[str]) -> None:
    """Unmounts what an agent left that was killed, after what is to be written back was."""
    if (node.short_dir / "mounts.json").exists():
        run_briefly([*argv, "--release", str(node.short_dir)], RELEASE_SECONDS)


def mark_stopped(node: LocalNode) -> None:
    """Written before its processes are ended: from here on it counts as stopped and not as dead."""
    (node.path / "stopped").touch(mode=0o600)


def restart_agent(node: LocalNode, argv: Sequence[str], extra_env: Mapping[str, str]) -> None:
    """Starts a stopped node's agent anew, in the directory as it left it. Call it under `locked`."""
    if node.is_stopped():
        (node.path / "pid").unlink(missing_ok=True)
        (node.path / "stopped").unlink()
        start_agent(node, argv, extra_env)


def _note_running_agent(node: LocalNode) -> None:
    """An agent was started by a process that ended before it noted the pid. Between fork and exec it does not bear
    its mark yet, so we look for up to a second; the first to bear it is the agent."""
    deadline = time.monotonic() + 1.0
    while not node.pid() and time.monotonic() < deadline:
        if pids := marked_processes().get(node.id):
            write_private(node.path / "pid", str(min(pids)))
            return
        time.sleep(0.005)


def remove_short_dir(path: Path) -> None:
    """Only a private directory of this user's. What of it cannot be removed stays, without an error."""
    if _is_ours(path) and not detach_below(path):  # what is mounted below is somebody's data
        # Not rmtree, which gives up on what jobs may leave: trees deeper than Python's stack, directories without rights.
        for argv in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
            subprocess.run([*argv, "--", str(path)], stdin=subprocess.DEVNULL, capture_output=True, check=False)


def remove_node(node: LocalNode) -> None:
    """Removes what the node left on disk, its record last so that a crash half-way is seen and finished."""
    remove_short_dir(node.short_dir)
    with contextlib.suppress(FileNotFoundError):  # another process may be ending it as well
        for item in sorted(node.path.iterdir(), key=lambda p: p.name == "instance.json"):
            shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink(missing_ok=True)
        node.path.rmdir()


_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}  # agents that this process started, to be reaped when they end


def reap() -> None:
    """Collects agents of ours that have ended, so that they do not stay behind as zombies."""
    for pid, child in list(_CHILDREN.items()):
        if child.poll() is not None:
            del _CHILDREN[pid]


def _make_short_dir(path: Path) -> None:
    """In a directory that everyone may write to, a name that we did not make ourselves is not ours to use."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    if not _is_ours(path):
        raise PermissionError(f"{path} exists and is not a private directory of this user: remove it and try again")


def _is_ours(path: Path) -> bool:
    try:
        info = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid() and not info.st_mode & 0o077
