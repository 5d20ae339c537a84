"""Locks that keep a cluster from being made, or from going away: on the subscription, or on the resource group in which it is.
Nodes cannot be ended under one, so that it is told before they cost money."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from clusterctl.core.errors import AuthFailed, ProviderError
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.cloud.doctor import Check

READ_ONLY = "ReadOnly"


@dataclass(frozen=True)
class Lock:
    """`level` is CanNotDelete or ReadOnly; `scope` the id of what it is on."""

    id: str
    name: str
    level: str
    scope: str

    @property
    def effect(self) -> str:
        if self.level == READ_ONLY:
            return "nothing there can be made, changed or removed"
        return "nothing there can be removed, and nodes could not be ended"

    @property
    def fix(self) -> str:
        return f"whoever set it can remove it: `az lock delete --ids {self.id}`"


def locks_over(calls: Calls, group: str) -> list[Lock]:
    """Those that hold for all that is in the group (its id, whether it is there or not): on it, or on its subscription. Raises
    ProviderError."""
    what = "looking for locks"
    try:
        rows = calls.list(f"{calls.path()}/providers/Microsoft.Authorization/locks", what)  # with those below it
    except AuthFailed:
        rows = calls.list(f"{group}/providers/Microsoft.Authorization/locks", what)
    locks = [_lock(row) for row in rows]
    return [lock for lock in locks if f"{group}/".lower().startswith(f"{lock.scope}/".lower())]


def lock_rows(calls: Calls, group: str) -> Iterator[Check]:
    """One for each that is in the way; one row where none is, or where we may not look."""
    try:
        found = locks_over(calls, group)
    except ProviderError as error:
        yield f"locks: not to be looked up ({error})", True, ""
        return
    for lock in found:
        yield f"lock {lock.name!r} ({lock.level}) on {lock.scope}", False, f"{lock.effect}; {lock.fix}"
    if not found:
        yield "locks: none in the way", True, ""


def _lock(row: Mapping[str, Any]) -> Lock:
    id_ = str(row["id"])
    scope = id_[: id_.lower().rindex("/providers/microsoft.authorization/locks/")]
    return Lock(id_, str(row.get("name") or ""), str((row.get("properties") or {}).get("level") or ""), scope)
