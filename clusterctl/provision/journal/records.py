"""A node's record as JSON and back, with a checksum, so that a damaged row is seen and never acted on."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass
from typing import Any

from clusterctl.core.model import Node, NodeState, Offer
from clusterctl.core.resources import Resources


@dataclass(frozen=True)
class Record:
    """One generation of a node as kept on disk. Billing runs from `billed_from` to `billed_to` (unix seconds), None =
    not yet; `paid` are the stays before it was last stopped: (day since 1970, seconds). `join_secret_hash` is of the
    one-time secret its bootstrap carries."""

    node: Node
    join_secret_hash: str = ""
    billed_from: float | None = None
    billed_to: float | None = None
    paid: tuple[tuple[int, float], ...] = ()


def record_to_text(record: Record) -> tuple[str, int]:
    """(JSON, checksum) of a record."""
    data = asdict(record)
    data["node"]["state"] = record.node.state.value
    text = json.dumps(data, separators=(",", ":"), sort_keys=True)
    return text, zlib.crc32(text.encode())


def record_from_text(text: str, checksum: int) -> Record:
    """The record; raises ValueError when the checksum or the shape is wrong."""
    if zlib.crc32(text.encode()) != checksum:
        raise ValueError("a node's record does not match its checksum")
    try:
        data = json.loads(text)
        return Record(
            node=_node(data["node"]),
            join_secret_hash=data["join_secret_hash"],
            billed_from=data["billed_from"],
            billed_to=data["billed_to"],
            paid=tuple((int(day), float(seconds)) for day, seconds in data.get("paid", ())),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"a node's record has an unknown shape ({error})") from error


def _node(data: dict[str, Any]) -> Node:
    offer = dict(data["offer"])
    offer["resources"] = Resources(tuple((name, units) for name, units in offer["resources"]["items"]))
    offer["labels"] = tuple((key, value) for key, value in offer["labels"])
    return Node(**{**data, "offer": Offer(**offer), "state": NodeState(data["state"])})
