"""The node's own directory: its lock, its credential, its journal, and room for packages, work and logs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path

from clusterctl_runtime.wire import Bootstrap


class DirectoryInUse(Exception):
    """Another agent runs on this directory."""


class NodeDirectory:
    """Paths below the node's directory (0700); holds its lock until the process ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.work = path / "work"
        self.packages = path / "packages"
        self.spool = path / "spool"
        self.engine = path / "engine"
        self.files = path / "files"
        self.prepared = path / "prepared.json"
        self.journal = path / "tasks.jsonl"
        self._credential = path / "credential"
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
        self._lock = os.open(path / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DirectoryInUse(f"another agent runs in {path}: end it first, or give this node its own") from error

    def credential(self, owner: list[str | int]) -> str:
        """What the join token was exchanged for; empty before the first join. `owner`: uid, node id and generation; the
        credential of an earlier node on this machine is not ours."""
        try:
            kept = json.loads(self._credential.read_text())
            return kept["credential"] if kept["owner"] == owner else ""
        except (FileNotFoundError, ValueError, KeyError):
            return ""

    def keep_credential(self, owner: list[str | int], credential: str) -> None:
        """On disk before it returns: the join token that bought it does not work twice."""
        part = self._credential.with_suffix(".part")
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, 0o600)
            json.dump({"owner": owner, "credential": credential}, file)
            file.flush()
            os.fsync(descriptor)
        part.replace(self._credential)


def node_path(bootstrap: Bootstrap) -> Path:
    """Where the node lives when the bootstrap does not say."""
    if bootstrap.directory:
        return Path(bootstrap.directory)
    root = Path("/var/lib") if os.geteuid() == 0 else Path.home() / ".local/state"
    return root / "clusterctl" / bootstrap.uid / bootstrap.node_id
