"""What Ray wants, as the core's Demand: pending tasks and actors by shape, placement groups as gangs, requested resources."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clusterctl.core.model import Demand, Shape, Strategy, labels_of
from clusterctl.core.resources import Resources

BELIEVED_AFTER = 1.5  # seconds
_ACCELERATOR = "accelerator_type:"
_IN_GROUP = re.compile(r"(_group_(\d+_)?[0-9a-f]+$|^bundle_group)")
_NOT_FOR_SALE = re.compile(r"^(object_store_memory$|node:|accelerator_type:)")
_STRATEGIES: tuple[Strategy, ...] = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")


@dataclass(frozen=True)
class Waiting:
    """What one driver waits for. `driver`: our task, or Ray's job id where it is none of ours. `tasks`, `actors`: how many of
    each demand, by its id; `groups`: ids of demands, each a placement group."""

    driver: str
    tasks: Mapping[str, int]
    actors: Mapping[str, int]
    groups: tuple[str, ...]


@dataclass(frozen=True)
class NodeUser:
    """An actor or a placement group (`kind`) on a node, and whose: `driver` as in Waiting."""

    kind: str
    name: str
    driver: str
    detached: bool


def waiting_of(rows: Sequence[Mapping[str, Any]]) -> list[Waiting]:
    """`rows` is the helper's answer. The ids are those of `demand_of`, since the shapes are the same."""
    return [
        Waiting(
            row["task"] or row["job"],
            _counted(row["tasks"]),
            _counted(row["actors"]),
            tuple(_id("placement_group", group) for group in row["gangs"]),
        )
        for row in rows
    ]


def _counted(entries: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for entry in entries:
        shape = shape_of(entry)
        if shape is not None:
            key = _id("task", _digest(((shape, 1),)))
            counts[key] = counts.get(key, 0) + int(entry["count"])
    return counts


def demand_of(state: Mapping[str, Any], since: Mapping[str, float], now: float) -> tuple[Demand, ...]:
    """`state` is a line of the helper; `since` remembers when a demand (by id) was first seen. Sorted by id."""
    found: dict[str, Demand] = {}
    for source, entries in (("task", state["tasks"]), ("request", state["requests"])):
        for entry in entries:
            shape = shape_of(entry)
            if shape is not None and entry["count"] > 0:
                _add(found, source, ((shape, 1),), int(entry["count"]), since=since, now=now)
    for gang in state["gangs"]:
        counted = [(shape_of(bundle), int(bundle["count"])) for bundle in gang["bundles"]]
        bundles = tuple(sorted((shape, n) for shape, n in counted if shape is not None))
        if bundles:
            strategy = gang["strategy"] if gang["strategy"] in _STRATEGIES else "PACK"
            _add(found, "placement_group", bundles, 1, gang["id"], strategy, since=since, now=now)
    return tuple(found[key] for key in sorted(found))


def without_orphans(demand: Sequence[Demand], drivers: Sequence[str] | None) -> tuple[Demand, ...]:
    """Without requests that nobody is left to use: of `drivers` none runs (None: nothing is requested). They come back after they
    were forgotten: Train and Data ask through an actor of their own, which outlives a driver that was killed and says its last
    wish again every 20 s, for three minutes."""
    return tuple(wanted for wanted in demand if drivers != () or wanted.source != "request")


def believed(demand: Sequence[Demand], in_use: Collection[str], now: float) -> tuple[Demand, ...]:
    """Without placement groups that came in the last BELIEVED_AFTER seconds, while Ray's work holds anything that they ask for
    (`in_use` names it): Ray shows a group that replaces another for up to a second beside what that one held, and a node would
    be bought for each of its bundles."""

    def may_be_twice(wanted: Demand) -> bool:
        if (
            wanted.source != "placement_group" or not 0 <= now - wanted.since < BELIEVED_AFTER
        ):  # a clock may have been set back
            return False
        return any(name in in_use for shape, _ in wanted.bundles for name in shape.resources)

    return tuple(wanted for wanted in demand if not may_be_twice(wanted))


def _add(
    found: dict[str, Demand],
    source: str,
    bundles: tuple[tuple[Shape, int], ...],
    count: int,
    name: str = "",
    strategy: Strategy = "",
    *,
    since: Mapping[str, float],
    now: float,
) -> None:
    key = _id(source, name or _digest(bundles))
    if key in found:
        count += found[key].count
    found[key] = Demand(
        id=key,
        source=source,
        bundles=bundles,
        count=count,
        gang=source == "placement_group",
        strategy=strategy,
        since=since.get(key, now),
        refs=(name,) if name else (),
    )


def shape_of(entry: Mapping[str, Any]) -> Shape | None:
    """None for what no new node would serve: work inside a placement group, work tied to one node, work that needs nothing."""
    raw: dict[str, float] = entry["resources"]
    if any(_IN_GROUP.search(name) or name.startswith("node:") for name in raw):
        return None
    selectors = dict(entry.get("selectors") or {})
    gpu_type = next((name[len(_ACCELERATOR) :] for name in raw if name.startswith(_ACCELERATOR)), "")
    gpu_type = gpu_type or _plain_selector(selectors, "ray.io/accelerator-type")
    pool = _plain_selector(selectors, "ray.io/node-group")
    resources = plain_resources(raw)
    if not resources and not selectors and not gpu_type and not pool:
        return None
    return Shape(resources, gpu_type, pool, labels_of(selectors))


def plain_resources(raw: Mapping[str, float]) -> Resources:
    """Without what Ray adds for its own use: node:IP, object store, accelerator types, shares of placement groups."""
    return Resources.of(
        {
            name: max(0.0, amount)
            for name, amount in raw.items()
            if not _NOT_FOR_SALE.match(name) and not _IN_GROUP.search(name)
        }
    )


def _plain_selector(selectors: dict[str, str], label: str) -> str:
    """Takes a selector for exactly one value out of `selectors`; "" when there is none or it says more than that."""
    value = selectors.get(label, "")
    if not value or value.startswith(("!", "in(")):
        return ""
    return selectors.pop(label)


def _id(source: str, name: str) -> str:
    return f"ray:{source}:{name[:16]}"


def _digest(bundles: tuple[tuple[Shape, int], ...]) -> str:
    plain = [[s.resources.items, s.gpu_type, s.pool, s.selectors, n] for s, n in bundles]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()[:12]
