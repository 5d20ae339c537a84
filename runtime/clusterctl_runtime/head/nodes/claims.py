"""What the hosts of an inventory are claimed for, in memory and on file: found by instance, by host and by token."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any

from clusterctl_runtime.files.private import write_private
from clusterctl_runtime.head.clock import steady_time

REMEMBERED_SECONDS = 86400.0  # that an ended claim is kept on file: its token stays used up
_NOT_ON_FILE = frozenset({"bootstrap"})  # it holds a secret

Claim = dict[
    str, Any
]  # as in wire.py, with its host; "seen": the host has said that it has it; "releasing"; "ended": when


class ClaimBook:
    """`lock` guards it, and is held for moments only. Call `save` without it: the writes of all who come at the same time are
    one."""

    def __init__(self, path: Path, lock: threading.RLock) -> None:
        self._path, self._lock = path, lock
        self._writing = threading.Lock()
        self._claims: dict[str, Claim] = {}
        self._of_host: dict[str, dict[str, Claim]] = {}
        self._of_token: dict[str, Claim] = {}
        self._version = self._saved = 0
        for claim in _load(path).values():
            self.put(claim)

    def get(self, instance: str) -> Claim | None:
        """The claim of an instance; None where there is none."""
        return self._claims.get(instance)

    def of_host(self, host_id: str) -> Collection[Claim]:
        """All claims of a host, also those that have ended and are remembered."""
        return self._of_host.get(host_id, {}).values()

    def of_token(self, token: str) -> Claim | None:
        """The claim that this launch token made; None where there is none."""
        return self._of_token.get(token)

    def put(self, claim: Claim) -> Claim:
        """Adds a claim, or replaces the one of that instance."""
        self._forget(str(claim["instance"]))
        self._claims[str(claim["instance"])] = claim
        self._of_host.setdefault(claim["host"], {})[str(claim["instance"])] = claim
        self._of_token[claim["token"]] = claim
        self.changed()
        return claim

    def changed(self) -> None:
        """A claim was changed in place: it is not on disk before the next `save`."""
        self._version += 1

    def _forget(self, instance: str) -> None:
        claim = self._claims.pop(instance, None)
        if claim is not None:
            del self._of_host[claim["host"]][instance]
            if self._of_token.get(claim["token"]) is claim:
                del self._of_token[claim["token"]]

    def save(self) -> None:
        """Returns when all that was changed so far is on disk."""
        with self._lock:
            wanted = self._version
        with self._writing:
            with self._lock:
                if self._saved >= wanted:
                    return
                oldest = steady_time() - REMEMBERED_SECONDS
                for instance in [i for i, c in self._claims.items() if c.get("ended") and c["ended"] <= oldest]:
                    self._forget(instance)
                version = self._version
                kept = {
                    instance: {key: value for key, value in claim.items() if key not in _NOT_ON_FILE}
                    for instance, claim in self._claims.items()
                }
            write_private(self._path, json.dumps(kept))
            self._saved = version


def _load(path: Path) -> dict[str, Claim]:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}  # the hosts say what they are claimed for
