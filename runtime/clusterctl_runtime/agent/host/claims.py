"""What this host has been claimed for: one file per claim, on disk before anything is started, and the tokens used up.

The host is the truth: the head's books are made from what the host says. A claim names an instance; its token is used up
once it has ended, however often it is asked for again.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from clusterctl_runtime.agent.preparing.removal import remove_tree
from clusterctl_runtime.files.private import write_private
from clusterctl_runtime.wire import Message

REMEMBERED = 2000  # ended claims whose tokens are still known


class Claims:
    """Claims by instance id; `state` is "running" or "stopping"."""

    def __init__(self, root: Path) -> None:
        self._directory = root / "claims"
        self._nodes = root / "nodes"
        self._used_file = root / "used.json"
        for path in (self._directory, self._nodes):
            path.mkdir(mode=0o700, exist_ok=True)
        self._used: dict[str, float] = _read(self._used_file) or {}  # token -> when it ended
        found = (_read(path) for path in sorted(self._directory.glob("*.json")))
        self.held: dict[str, Message] = {claim["instance"]: claim for claim in found if claim}

    def is_used(self, token: str) -> bool:
        """Whether a claim with this token has ended here; known of the last REMEMBERED."""
        return token in self._used

    def take(self, claim: Message) -> Message:
        """Writes the claim down; the node's directory is told to its agent by the bootstrap document."""
        instance = str(claim["instance"])
        shared = {"directory": str(self.node_directory(claim)), "engines": str(self._nodes.parent / "engines")}
        bootstrap = {**claim["bootstrap"], **shared}
        claim = {**claim, "bootstrap": bootstrap, "state": "running", "created": time.time()}
        write_private(self.bootstrap_file(instance), json.dumps(bootstrap))
        write_private(self._file(instance), json.dumps(claim))
        self.held[instance] = claim
        return claim

    def end(self, instance: str) -> None:
        """The claim is about to end: its token never works again."""
        claim = self.held[instance]
        self._used[claim["token"]] = time.time()
        if len(self._used) > REMEMBERED:
            del self._used[next(iter(self._used))]
        write_private(self._used_file, json.dumps(self._used))
        claim["state"] = "stopping"
        write_private(self._file(instance), json.dumps(claim))

    def forget(self, instance: str) -> None:
        """Nothing of the claim runs any more: its files go, the claim's own last."""
        claim = self.held.pop(instance)
        remove_tree(self.node_directory(claim))
        self.bootstrap_file(instance).unlink(missing_ok=True)
        self.log_file(instance).unlink(missing_ok=True)
        self.pid_file(instance).unlink(missing_ok=True)
        self._file(instance).unlink(missing_ok=True)

    def documents(self) -> list[Message]:
        """What the head is told: all but the bootstrap, which holds a secret."""
        return [{k: v for k, v in claim.items() if k != "bootstrap"} for claim in self.held.values()]

    def console(self, instance: str, size: int = 4000) -> str:
        """The end of what the claim's agent wrote."""
        try:
            return self.log_file(instance).read_bytes()[-size:].decode(errors="replace")
        except OSError:
            return ""

    def bootstrap_file(self, instance: str) -> Path:
        """What the claim's agent is started with. It holds a secret."""
        return self._nodes / f"{instance}.bootstrap.json"

    def log_file(self, instance: str) -> Path:
        return self._nodes / f"{instance}.log"

    def pid_file(self, instance: str) -> Path:
        """The agent's pid, and what its command line must have for that to be believed."""
        return self._nodes / f"{instance}.pid"

    def node_directory(self, claim: Message) -> Path:
        """Where the node of this claim keeps all that it has; it goes with the claim."""
        # Short: sockets of the engine live below it, and their paths may have 107 characters.
        return self._nodes / f"{claim['node_id']}.{claim['generation']}"

    def _file(self, instance: str) -> Path:
        if not instance.replace("-", "").isalnum():
            raise ValueError(f"{instance!r} is no instance id")
        return self._directory / f"{instance}.json"


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
