"""What a table of nodes shows when there is no room for all of them: like ones in one row. Pure; nothing here prints."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clusterctl.core.errors import NotYet

Node = dict[str, Any]
_TROUBLE = ("quarantined", "failed")


@dataclass(frozen=True)
class Row:
    """`since`: unix seconds, of the node that has been there longest; 0 = unknown."""

    names: str
    stage: str
    since: float
    reason: str


def stage(node: Node) -> str:
    """The node's state, and while it takes the spec's files and setup, which step: "joining, setup 2 of 3"."""
    state, step = str(node.get("state")), _step(node)
    if step and state in ("joining", "ready"):
        return f"{state}, {step}"
    if node.get("code") == NotYet.code:  # "planned, pulling": the first word of its reason
        return f"{state}, {str(node.get('reason') or '').partition(' ')[0]}"
    code = str(node.get("code"))
    return f"{state}, {code}" if state == "joining" and code in ("engine", "installing") else state


def rows_of(nodes: Sequence[Node], room: int, others: Mapping[str, int]) -> list[Row]:
    """At most `room` rows: a node each; else those of one pool, stage and reason together; else those of one pool and stage.
    Trouble comes first and what is ready last: among them, in a row, the `others` of each pool."""
    settled = [Row(name_of_others(pool, count), "ready", 0.0, "") for pool, count in others.items()]
    room = max(1, room - len(settled))
    ordered = sorted(nodes, key=_urgency)
    keys: tuple[Callable[[Node], Hashable], ...] = (
        lambda node: node.get("id"),
        lambda node: (node.get("pool"), stage(node), node.get("reason")),
        lambda node: (node.get("pool"), stage(node)),
        lambda node: stage(node),
    )
    rows: list[Row] = []
    for key in keys:
        rows = [_row(group) for group in grouped(ordered, key)]
        if len(rows) <= room:
            break
    return [*rows[:room], *settled]


def grouped(nodes: Sequence[Node], key: Callable[[Node], Hashable]) -> list[list[Node]]:
    """In the order in which the groups first appear."""
    groups: dict[Hashable, list[Node]] = {}
    for node in nodes:
        groups.setdefault(key(node), []).append(node)
    return list(groups.values())


def names_of(nodes: Sequence[Node]) -> str:
    """ "gpu-3", or "16 of gpu"."""
    if len(nodes) == 1:
        return str(nodes[0].get("id"))
    pools = list(dict.fromkeys(str(node.get("pool") or "") for node in nodes))
    return f"{len(nodes)} of {pools[0]}" if len(pools) == 1 and pools[0] else f"{len(nodes)} nodes"


def name_of_others(pool: str, count: int) -> str:
    """ "2,400 of gpu", of nodes that were counted and not looked at."""
    return f"{count:,} of {pool}" if pool != "head" else "head node"


def _row(nodes: Sequence[Node]) -> Row:
    """The reason is that of the node that has been there longest."""
    oldest = min(nodes, key=lambda node: float(node.get("since") or 0.0))
    return Row(names_of(nodes), stage(oldest), float(oldest.get("since") or 0.0), _reason(oldest))


def _step(node: Node) -> str:
    preparing = node.get("preparing") or {}
    if preparing.get("state") not in ("running", "waiting"):
        return ""
    return str(preparing.get("step") or "").partition(":")[0] or "files"


def _reason(node: Node) -> str:
    """Without what the stage says already."""
    reason, step = str(node.get("reason") or ""), _step(node)
    return reason.removeprefix("takes work; ").removeprefix(f"{step}: ") if step else reason


def _urgency(node: Node) -> int:
    state = node.get("state")
    return 0 if state in _TROUBLE else 2 if stage(node) == "ready" else 1
