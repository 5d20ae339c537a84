"""Locks: whoever has one on a resource, its group or its subscription does not let it be deleted, or changed at all."""

from __future__ import annotations

from tests.cloud.azure.store import Store
from tests.cloud.azure.world import Refusal

LOCK = "Microsoft.Authorization/locks"


class Locks:
    def __init__(self, store: Store) -> None:
        self._store = store

    def check(self, id_: str, verb: str) -> None:
        """`verb`: write or delete. Raises Refusal (409)."""
        key = id_.lower()
        if f"/providers/{LOCK.lower()}/" in key:
            return
        for lock in self._store.of_type(LOCK):
            scope = lock["id"].rpartition("/providers/")[0]
            level = lock["properties"]["level"]
            holds = key == scope.lower() or key.startswith(scope.lower() + "/")
            inside = verb == "delete" and scope.lower().startswith(key + "/")  # what would be deleted along
            if (holds and (verb == "delete" or level == "ReadOnly")) or inside:
                raise Refusal(
                    409, "ScopeLocked",
                    f"The scope '{id_}' cannot perform {verb} operation because following scope(s) are locked: '{scope}'. Please "
                    "remove the lock and try again.",
                )  # fmt: skip
