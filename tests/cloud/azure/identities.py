"""User-assigned managed identities: what Azure makes of each is a principal that machines log in as."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from tests.cloud.azure.services import Behaviour, Call, Services
from tests.cloud.azure.store import Resource
from tests.cloud.azure.tokens import Tokens
from tests.cloud.azure.world import TENANT, Principal, Refusal

if TYPE_CHECKING:
    from tests.cloud.azure.world import World

IDENTITY = "Microsoft.ManagedIdentity/userAssignedIdentities"


class Identities(Behaviour):
    """`slow`: seconds for which the directory does not know a new one everywhere."""

    def __init__(self, world: World, services: Services, tokens: Tokens) -> None:
        self._world, self._tokens = world, tokens
        self.slow = 0.0
        self._known_from: dict[str, float] = {}  # object id -> by the world's clock
        services.behave(IDENTITY, self)

    def is_known(self, object_id: str) -> bool:
        return not self.slow or self._world.clock() >= self._known_from.get(object_id, 0.0)

    def check(self, call: Call, resource: Resource, before: Resource | None) -> None:
        name = resource["name"]
        if not 3 <= len(name) <= 128:
            raise Refusal(400, "InvalidIdentityName", f"The identity name '{name}' is not valid.")
        if before:
            resource["properties"] = before["properties"]
            return
        principal = Principal(name, str(uuid.uuid4()), str(uuid.uuid4()))
        self._tokens.identities[resource["id"].lower()] = principal
        self._known_from[principal.object_id] = self._world.clock() + self.slow
        resource["properties"] = {
            "tenantId": TENANT, "principalId": principal.object_id, "clientId": principal.client_id,
        }  # fmt: skip

    def deleted(self, resource: Resource) -> None:
        self._tokens.identities.pop(resource["id"].lower(), None)
