"""What a caller may do at a scope, for whoever asks for it of himself."""

from __future__ import annotations

from typing import Any

from tests.cloud.azure.assignments import Rights
from tests.cloud.azure.resources import Resources
from tests.cloud.azure.services import Answer, Call, Services
from tests.cloud.azure.store import Store, group_of, name_of
from tests.cloud.azure.world import World, group_not_found


class Permissions:
    def __init__(
        self, world: World, services: Services, store: Store, resources: Resources, rights: Rights
    ) -> None:  # fmt: skip
        self._world, self._store, self._resources, self._rights = world, store, resources, rights
        for operation in ("permissions.listForResourceGroup", "permissions.listAt"):
            services.on(operation, self._list)

    def _list(self, call: Call) -> Answer:
        scope = call.id.rpartition("/providers/")[0]
        group = group_of(scope)
        if group and self._store.find(group) is None:
            raise group_not_found(name_of(group))
        rows = [
            self._less(one) for row in self._rights.reaching(call.principal, scope)
            for one in self._rights.permissions_of(row)
        ]  # fmt: skip
        return self._resources.page(call, rows)

    def _less(self, permission: dict[str, Any]) -> dict[str, Any]:
        """Without what the world denies to everybody."""
        world = self._world
        if world.allowed is not None:
            permission = {**permission, "actions": sorted(world.allowed)}
        return {**permission, "notActions": [*(permission.get("notActions") or ()), *sorted(world.denied)]}
