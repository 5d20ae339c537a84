"""Resource groups: what is in one goes with it, unless something outside still needs it. And lists of whatever there is."""

from __future__ import annotations

import re
from typing import Any

from tests.cloud.azure.facts import REGIONS
from tests.cloud.azure.locks import Locks
from tests.cloud.azure.operations import NotYet, Operations
from tests.cloud.azure.resources import GROUP, Resources, filtered, plain_location
from tests.cloud.azure.services import Answer, Call, Services
from tests.cloud.azure.store import Resource, Store, copied, group_of
from tests.cloud.azure.world import Failure, Refusal, World, group_not_found

_NAME = re.compile(r"[-\w._()]{1,90}")
_NOT_LISTED = ("microsoft.authorization/", "microsoft.resources/")
_GIVE_UP_SECONDS = 2.0  # of trying to delete what something else holds


class Groups:
    def __init__(
        self, world: World, store: Store, operations: Operations, services: Services, resources: Resources, locks: Locks
    ) -> None:  # fmt: skip
        self._world, self._store, self._operations = world, store, operations
        self._services, self._resources, self._locks = services, resources, locks
        self._ends_at: dict[str, float] = {}  # what is in a group that is being deleted, by the world's clock
        for name, handler in {
            "createOrUpdate": self._put, "update": self._patch, "get": self._get, "checkExistence": self._exists,
            "delete": self._delete, "list": self._list,
        }.items():  # fmt: skip
            services.on(f"resourceGroups.{name}", handler)
        services.on("resources.list", self._resources_of)
        services.on("resources.listByResourceGroup", self._resources_of)
        services.on("tags.updateAtScope", self._tags)
        services.on("tags.getAtScope", lambda call: _tags_of(self._tagged(call)))

    def _put(self, call: Call) -> Answer:
        name, before = call.path["resourceGroupName"], self._find(call)
        location = plain_location(call.body["location"])
        if not _NAME.fullmatch(name) or name.endswith("."):
            raise Refusal(400, "InvalidResourceGroup", f"The provided resource group name '{name}' is not valid.")
        if location not in REGIONS:
            message = f"The provided location '{location}' is not available for resource group."
            raise Refusal(400, "LocationNotAvailableForResourceGroup", message)
        if before and before["properties"]["provisioningState"] == "Deleting":
            raise _being_deleted(name)
        if before and before["location"] != location:
            message = (
                f"Invalid resource group location '{location}'. The Resource group already exists in location "
                f"'{before['location']}'."
            )
            raise Refusal(409, "InvalidResourceGroupLocation", message)
        self._locks.check(call.id, "write")
        id_ = before["id"] if before else call.id.replace("/resourcegroups/", "/resourceGroups/")
        group: Resource = {
            "id": id_, "name": before["name"] if before else name, "type": GROUP, "location": location,
            "tags": call.body.get("tags") or {}, "properties": {"provisioningState": "Succeeded"},
        }  # fmt: skip
        for admit in self._world.admission:
            admit(call, group)
        self._store.put(group)
        return Answer(200 if before else 201, copied(group))

    def _patch(self, call: Call) -> Resource:
        group = self._named(call)
        if group["properties"]["provisioningState"] == "Deleting":
            raise _being_deleted(group["name"])
        self._locks.check(call.id, "write")
        if call.body.get("tags") is not None:
            group["tags"] = call.body["tags"]
        return copied(group)

    def _get(self, call: Call) -> Resource:
        return copied(self._named(call))

    def _exists(self, call: Call) -> Answer:
        return Answer(204 if self._find(call) else 404)

    def _list(self, call: Call) -> Answer:
        rows = filtered(self._store.of_type(GROUP), call.query.get("$filter", ""))
        return self._resources.page(call, [copied(r) for r in rows])

    # ------------------------------------------------------------ its end

    def _delete(self, call: Call) -> Answer:
        group = self._named(call)
        self._locks.check(group["id"], "delete")
        group["properties"]["provisioningState"] = "Deleting"
        until: list[float] = []

        def finish() -> None:
            """Ends what is in it, piece by piece; what outsiders hold goes when they let go of it, or not at all."""
            held = self._end(group["id"])
            if self._store.below(group["id"]):
                until[:] = until or [self._world.clock() + _GIVE_UP_SECONDS]
                if held and self._world.clock() >= until[0]:
                    raise Failure("ResourceGroupDeletionBlocked", _blocked(group["name"], held))
                raise NotYet
            self._store.remove(group["id"])

        def failed(failure: Failure) -> None:
            group["properties"]["provisioningState"] = "Succeeded"

        operation = self._operations.begin(call, group["id"], "", finish, None, failed)
        return Answer(202, None, self._operations.headers(operation))

    def _end(self, group: str) -> dict[str, str]:
        """Ends what can end now. What cannot, and why: one thing often waits for another."""
        while True:
            members = sorted(self._store.below(group), key=lambda r: -r["id"].count("/"))
            held = {one["id"]: why for one in members if (why := self._end_one(one))}
            if len(self._store.below(group)) in (0, len(members)):
                return held

    def _end_one(self, one: Resource) -> str:
        if self._store.find(one["id"]) is not one:
            return ""
        behaviour = self._services.behaviour(one["type"])
        try:
            behaviour.check_delete(None, one)
        except Refusal as refusal:
            return refusal.message
        if one["id"] not in self._ends_at:
            self._resources.begin_delete(one)
            self._ends_at[one["id"]] = self._world.clock() + (behaviour.delete_seconds(one) or 0)
        if self._world.clock() >= self._ends_at[one["id"]]:
            del self._ends_at[one["id"]]
            self._resources.forget(one)
        return ""

    # ------------------------------------------------------------ what is in it

    def _resources_of(self, call: Call) -> Answer:
        scope = call.id.rpartition("/")[0]
        if call.route.operation.endswith("ByResourceGroup"):
            self._named(call)
        rows = [
            _brief(r) for r in self._store.below(scope)
            if "/providers/" in r["id"] and not r["type"].lower().startswith(_NOT_LISTED) and r["type"].count("/") == 1
            and self._resources.visible(r)
        ]  # fmt: skip
        return self._resources.page(call, filtered(rows, call.query.get("$filter", "")))

    def _tags(self, call: Call) -> Answer:
        """Tags of anything, without writing the rest of it."""
        resource = self._tagged(call)
        given = (call.body.get("properties") or {}).get("tags") or {}
        have = dict(resource.get("tags") or {})
        operation = call.body.get("operation")
        if operation == "Delete":
            have = {k: v for k, v in have.items() if k not in given}
        else:
            have = {**(have if operation == "Merge" else {}), **given}
        self._locks.check(resource["id"], "write")
        resource["tags"] = have
        return Answer(200, _tags_of(resource))

    def _tagged(self, call: Call) -> Resource:
        id_ = call.id.rpartition("/providers/")[0]
        return self._store.get(id_)

    def _find(self, call: Call) -> Resource | None:
        return self._store.find(group_of(call.id))

    def _named(self, call: Call) -> Resource:
        found = self._find(call)
        if found is None:
            raise group_not_found(call.path["resourceGroupName"])
        return found


def _being_deleted(name: str) -> Refusal:
    message = f"The resource group '{name}' is in deprovisioning state and cannot perform this operation."
    return Refusal(409, "ResourceGroupBeingDeleted", message)


def _blocked(name: str, held: dict[str, str]) -> str:
    why = " ".join(f"{id_}: {message}" for id_, message in held.items())
    return (
        f"Deletion of resource group '{name}' did not finish within the allowed time as resources with identifiers "
        f"'{', '.join(held)}' could not be deleted. {why}"
    )


def _brief(resource: Resource) -> dict[str, Any]:
    """As lists over all types have it."""
    return copied({k: v for k, v in resource.items() if k not in ("properties", "etag")})


def _tags_of(resource: Resource) -> dict[str, Any]:
    id_ = f"{resource['id']}/providers/Microsoft.Resources/tags/default"
    return {
        "id": id_,
        "name": "default",
        "type": "Microsoft.Resources/tags",
        "properties": {"tags": resource.get("tags") or {}},
    }
