"""The launches that were begun, in a directory of the head: a call is written down before it is made, so that it can be
repeated exactly as it was.

A lost answer is asked for again with the same token, and the caller may by then want only some of the nodes.

    AWS           wants the very same parameters for a ClientToken
    Google Cloud  takes a requestId and names for the same insert, whatever the rest says
    Azure         makes a PUT with the same name the same VM, and refuses other values for some of its fields
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from clusterctl_runtime.files.lock import wait_for
from clusterctl_runtime.files.private import write_private

from clusterctl_providers.cloud.batches import Batch

KEPT = 2 * 86_400.0  # seconds; no launch stays without an outcome for so long


class BatchBook:
    """Private files (0600): the calls hold join tokens."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self._directory, self._clock = directory, clock
        self._known: dict[str, tuple[Batch, dict[str, Any]]] = {}
        self._read: set[str] = set()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One launcher at a time, whatever process it is in."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with wait_for(self._directory / "lock"):
            self._load()
            yield

    def find(self, node_token: str) -> tuple[Batch, dict[str, Any]] | None:
        """The batch that this node was launched in, with the call as JSON data."""
        return self._known.get(node_token)

    def write(self, batch: Batch, call: dict[str, Any]) -> None:
        """On disk when it returns."""
        path = self._directory / f"{batch.token}.json"
        write_private(
            path,
            json.dumps({"token": batch.token, "members": batch.members, "tokens": batch.node_tokens, "call": call}),
        )
        self._read.add(path.name)
        self._remember(batch, call)

    def forget(self, batch: Batch) -> None:
        """The call failed for good and launched nothing."""
        (self._directory / f"{batch.token}.json").unlink(missing_ok=True)
        for token in batch.node_tokens:
            if token in self._known and self._known[token][0] == batch:
                del self._known[token]

    def _load(self) -> None:
        for path in sorted(self._directory.glob("*.json")):
            if path.name in self._read:
                continue
            if path.stat().st_mtime < self._clock() - KEPT:
                path.unlink(missing_ok=True)
                continue
            try:
                data = json.loads(path.read_text())
                members = tuple((str(node_id), int(generation)) for node_id, generation in data["members"])
                self._remember(Batch(data["token"], members, tuple(data["tokens"])), data["call"])
            except (ValueError, KeyError, TypeError):
                path.unlink(missing_ok=True)  # torn by a crash before the call was made
            self._read.add(path.name)

    def _remember(self, batch: Batch, call: dict[str, Any]) -> None:
        for token in batch.node_tokens:
            self._known[token] = (batch, call)
