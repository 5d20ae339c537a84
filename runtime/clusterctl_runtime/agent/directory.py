"""The node's own directory: its lock, its credential, its journal, and room for packages, work and logs."""

from __future__ import annotations

import json
import os
from pathlib import Path

from clusterctl_runtime.files.lock import LockHeld, take
from clusterctl_runtime.files.private import make_private_dir, write_private
from clusterctl_runtime.wire import Bootstrap


class DirectoryInUse(Exception):
    """Another agent runs on this directory."""


class NodeDirectory:
    """Paths below the node's directory (0700); holds its lock until the process ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.work = path / "work"
        self.packages = path / "packages"
        self.layers = path / "layers"
        self.spool = path / "spool"
        self.engine = path / "engine"
        self.files = path / "files"
        self.prepared = path / "prepared.json"
        self.journal = path / "tasks.jsonl"
        self._credential = path / "credential"
        make_private_dir(path)
        try:
            take(path / "agent.lock")
        except LockHeld as error:
            raise DirectoryInUse(f"another agent runs in {path}: end it first, or give this node its own") from error

    def credential(self, owner: list[str | int]) -> str:
        """What the join token was exchanged for; empty before the first join. `owner`: uid, node id and generation; the
        credential of an earlier node on this machine is not ours."""
        try:
            saved = json.loads(self._credential.read_text())
            return saved["credential"] if saved["owner"] == owner else ""
        except (FileNotFoundError, ValueError, KeyError):
            return ""

    def keep_credential(self, owner: list[str | int], credential: str) -> None:
        """On disk before it returns: the join token that bought it does not work twice."""
        write_private(self._credential, json.dumps({"owner": owner, "credential": credential}))


def node_path(bootstrap: Bootstrap) -> Path:
    """Where the node lives when the bootstrap does not say."""
    if bootstrap.directory:
        return Path(bootstrap.directory)
    root = Path("/var/lib") if os.geteuid() == 0 else Path.home() / ".local/state"
    return root / "clusterctl" / bootstrap.uid / bootstrap.node_id
