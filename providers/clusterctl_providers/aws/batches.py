"""One RunInstances call for many nodes: who is who in it, and a book on disk so that it is repeated as it was.

All instances of a call get the same tags and user data; what tells them apart is the launch index that EC2 gives them
(0, 1, 2 ... in the call, shown by DescribeInstances and by the metadata service). So the tag names the nodes in the
order of the index, and node N of the call reads entry N of its document.

A lost answer is asked for again with the same ClientToken. AWS then wants the very same parameters, and the caller may
by then want only some of the nodes: hence the book.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusterctl_providers.base import CreateRequest
from clusterctl_providers.file_lock import exclusive

TAG_NODES = "clusterctl-nodes"  # the nodes of a call by launch index, where it launches several
MOST_NODES = 50  # in one call: their join tokens must fit into 16 KiB of user data
LONGEST_TAG = 256
KEPT = 2 * 86_400.0  # seconds; no launch stays without an outcome for so long

Member = tuple[str, int]  # node id, generation


@dataclass(frozen=True)
class Batch:
    """The nodes of one call in the order of their launch index. `token` is the call's ClientToken."""

    token: str
    members: tuple[Member, ...]
    node_tokens: tuple[str, ...]


def make_batches(requests: Sequence[CreateRequest]) -> list[list[CreateRequest]]:
    """Requests that one call can serve, together and in order: the same offer, tags and bootstrap but for who it is."""
    groups: dict[str, list[CreateRequest]] = {}
    for request in requests:
        groups.setdefault(_kind(request), []).append(request)
    batches: list[list[CreateRequest]] = []
    for group in groups.values():
        group.sort(key=lambda r: (_split(r.node_id), r.generation))
        open_batch: list[CreateRequest] = []
        for request in group:
            wanted = [*open_batch, request]
            if len(wanted) > MOST_NODES or len(nodes_tag([_member(r) for r in wanted])) > LONGEST_TAG:
                batches.append(open_batch)
                wanted = [request]
            open_batch = wanted
        batches.append(open_batch)
    return batches


def batch_of(requests: Sequence[CreateRequest]) -> Batch:
    """The batch of these requests; a single node's call carries the node's own token."""
    tokens = tuple(request.token for request in requests)
    token = tokens[0] if len(tokens) == 1 else hashlib.sha256("/".join(tokens).encode()).hexdigest()[:64]
    return Batch(token, tuple(_member(request) for request in requests), tokens)


def shared_bootstrap(request: CreateRequest) -> dict[str, Any]:
    """The bootstrap document without what differs from node to node."""
    return {k: v for k, v in request.bootstrap.items() if k not in ("node_id", "generation", "join_token")}


def nodes_tag(members: Sequence[Member]) -> str:
    """("cpu-1", 1), ("cpu-2", 1), ("cpu-4", 2) -> "cpu-:1-2@1,4@2"."""
    prefixes = {_split(node_id)[0] for node_id, _ in members}
    if len(prefixes) != 1 or any(_split(node_id)[1] < 0 for node_id, _ in members):
        return "=" + ",".join(f"{node_id}@{generation}" for node_id, generation in members)
    runs: list[list[int]] = []  # first, last, generation
    for node_id, generation in members:
        number = _split(node_id)[1]
        if runs and runs[-1][1] + 1 == number and runs[-1][2] == generation:
            runs[-1][1] = number
        else:
            runs.append([number, number, generation])
    parts = [f"{a}@{g}" if a == b else f"{a}-{b}@{g}" for a, b, g in runs]
    return f"{prefixes.pop()}:{','.join(parts)}"


def members_of_tag(tag: str) -> tuple[Member, ...]:
    """The inverse of `nodes_tag`; empty for what is no such tag."""
    prefix, _, rest = ("", "", tag[1:]) if tag.startswith("=") else tag.rpartition(":")
    members: list[Member] = []
    for part in rest.split(","):
        name, _, generation = part.rpartition("@")
        if not name or not generation.isdecimal():
            return ()
        if tag.startswith("="):
            members.append((name, int(generation)))
            continue
        first, _, last = name.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            return ()
        members += [(f"{prefix}{n}", int(generation)) for n in range(int(first), int(last or first) + 1)][:MOST_NODES]
    return tuple(members)


class BatchBook:
    """The calls that were begun, in a directory of the head: a call is written down before it is made."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[str, tuple[Batch, dict[str, Any]]] = {}
        self._read: set[str] = set()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One launcher at a time, whatever process it is in."""
        with exclusive(self._directory / "lock"):
            self._load()
            yield

    def find(self, node_token: str) -> tuple[Batch, dict[str, Any]] | None:
        """The batch that this node was launched in, with the call's parameters."""
        return self._known.get(node_token)

    def write(self, batch: Batch, parameters: dict[str, Any]) -> None:
        path = self._directory / f"{batch.token}.json"
        part = path.with_suffix(f".{os.getpid()}.part")
        text = json.dumps(
            {"token": batch.token, "members": batch.members, "tokens": batch.node_tokens, "call": parameters}
        )
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        self._read.add(path.name)
        self._remember(batch, parameters)

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
            if path.stat().st_mtime < time.time() - KEPT:
                path.unlink(missing_ok=True)
                continue
            try:
                data = json.loads(path.read_text())
                members = tuple((str(node_id), int(generation)) for node_id, generation in data["members"])
                self._remember(Batch(data["token"], members, tuple(data["tokens"])), data["call"])
            except (ValueError, KeyError, TypeError):
                path.unlink(missing_ok=True)  # torn by a crash before the call was made
            self._read.add(path.name)

    def _remember(self, batch: Batch, parameters: dict[str, Any]) -> None:
        for token in batch.node_tokens:
            self._known[token] = (batch, parameters)


def _member(request: CreateRequest) -> Member:
    return request.node_id, request.generation


def _kind(request: CreateRequest) -> str:
    """Equal for requests that one call can serve."""
    tags = {
        k: v
        for k, v in request.tags.items()
        if k not in ("clusterctl-node", "clusterctl-generation", "clusterctl-token")
    }
    return json.dumps(
        [request.pool.name, request.pool.role, request.offer.key, tags, shared_bootstrap(request)], sort_keys=True
    )


def _split(node_id: str) -> tuple[str, int]:
    match = re.fullmatch(r"(.*?)(0|[1-9]\d*)", node_id)
    return (match.group(1), int(match.group(2))) if match else (node_id, -1)
