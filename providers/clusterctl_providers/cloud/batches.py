"""Many like nodes in one call: which requests go together, who is who among them, and how that fits into one tag.

All instances of a call get the same tags and user data; what tells them apart differs from cloud to cloud:

    AWS           the launch index (0, 1, 2 ... in the call), shown by its list and its metadata service: `nodes_tag` names the
                  nodes in that order, node N reads entry N of the document
    Google Cloud  the name of each, given by bulkInsert's perInstanceProperties, by which its machine knows itself; labels take
                  no such text as `nodes_tag`, and need none
    Azure         the name of each, since a VM is one PUT: batches of one
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from clusterctl_providers.base import TAG_GENERATION, TAG_NODE, TAG_TOKEN, CreateRequest

TAG_NODES = "clusterctl-nodes"  # the nodes of a call by launch index, where it launches several
MOST_NAMED = 1000  # nodes that are read out of a tag, whatever it says

Member = tuple[str, int]  # node id, generation


@dataclass(frozen=True)
class Batch:
    """The nodes of one call in the order of their launch index. `token` makes it one call, however often it is made."""

    token: str
    members: tuple[Member, ...]
    node_tokens: tuple[str, ...]


def make_batches(
    requests: Sequence[CreateRequest], fits: Callable[[Sequence[Member]], bool]
) -> list[list[CreateRequest]]:
    """Requests that one call can serve, together and in order: the same offer, tags and bootstrap but for who it is.
    `fits`: whether so many (from two on) go into one call of this cloud."""
    groups: dict[str, list[CreateRequest]] = {}
    for request in requests:
        groups.setdefault(_kind(request), []).append(request)
    batches: list[list[CreateRequest]] = []
    for group in groups.values():
        group.sort(key=lambda r: (_split(r.node_id), r.generation))
        open_batch: list[CreateRequest] = []
        for request in group:
            wanted = [*open_batch, request]
            if open_batch and not fits([_member(r) for r in wanted]):
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


def names_of(batch: Batch) -> str:
    """For sentences: "cpu-1", or "3 nodes (cpu-:1-3@1)"."""
    if len(batch.members) == 1:
        return batch.members[0][0]
    return f"{len(batch.members)} nodes ({nodes_tag(batch.members)})"


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
        numbers = range(int(first), int(last or first) + 1)[: MOST_NAMED - len(members)]
        members += [(f"{prefix}{n}", int(generation)) for n in numbers]
    return tuple(members)


def _member(request: CreateRequest) -> Member:
    return request.node_id, request.generation


def _kind(request: CreateRequest) -> str:
    """Equal for requests that one call can serve."""
    tags = {k: v for k, v in request.tags.items() if k not in (TAG_NODE, TAG_GENERATION, TAG_TOKEN)}
    same = [
        request.pool.name,
        request.pool.role,
        request.offer.key,
        repr(request.place),
        tags,
        shared_bootstrap(request),
    ]
    return json.dumps(same, sort_keys=True)


def _split(node_id: str) -> tuple[str, int]:
    match = re.fullmatch(r"(.*?)(0|[1-9]\d*)", node_id)
    return (match.group(1), int(match.group(2))) if match else (node_id, -1)
