"""What every resource has in common: PUT, GET, PATCH, DELETE and lists, with what is particular to its type (`Behaviour`)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from tests.cloud.azure.facts import REGIONS
from tests.cloud.azure.locks import Locks
from tests.cloud.azure.operations import Operations
from tests.cloud.azure.schema.models import Model
from tests.cloud.azure.schema.routes import routes, type_of
from tests.cloud.azure.services import Answer, Behaviour, Call, Services
from tests.cloud.azure.store import Resource, Store, copied, group_of, name_of, parent_of
from tests.cloud.azure.world import Failure, Refusal, Violation, World, group_not_found, not_found

GLOBAL = ("global",)  # where what belongs to no region is
GROUP = "Microsoft.Resources/resourceGroups"
_FILTER = re.compile(r"(tagName|tagValue|resourceType|name|location) eq '([^']*)'", re.I)


class Resources:
    def __init__(self, world: World, store: Store, operations: Operations, services: Services, locks: Locks) -> None:
        self._world, self._store, self._operations = world, store, operations
        self._services, self._locks = services, locks

    def serve(self, call: Call) -> Answer:
        """A call that has no handler of its own."""
        verbs: dict[str, Callable[[Call, str], Answer]] = {
            "PUT": self._put, "PATCH": self._patch, "DELETE": self._delete, "GET": self._get, "HEAD": self._head,
        }  # fmt: skip
        kind = routes().types.get(type_of(call.route.template).lower())
        one = call.route.segments[-1].startswith("{")
        if kind is None or call.route.verb not in verbs or (not one and call.route.verb != "GET"):
            raise Violation(501, "NotImplemented", f"The stand-in has no {call.route.operation}")
        return verbs[call.route.verb](call, kind) if one else self._list(call, kind)

    # ------------------------------------------------------------ one

    def _get(self, call: Call, kind: str) -> Answer:
        found = self._store.find(call.id)
        if found is None:
            self._check_place(call)
            raise not_found(call.id)
        return Answer(200, self.shown(found, call.query))

    def _head(self, call: Call, kind: str) -> Answer:
        return Answer(204 if self._store.find(call.id) else 404)

    def _put(self, call: Call, kind: str) -> Answer:
        self._check_place(call)
        before, behaviour = self._store.find(call.id), self._services.behaviour(kind)
        check_conditions(call, before)
        self._check_free(before, behaviour)
        self._locks.check(call.id, "write")
        resource = self._made(call, kind, before)
        if before is None and behaviour.located and "location" in self._model(call).members:
            check_region(resource)
        check_location(resource, before)
        status = call.route.status(200, 202, 201) if before else call.route.status(201, 202, 200)
        return self._keep(call, behaviour, resource, before, status)

    def _patch(self, call: Call, kind: str) -> Answer:
        self._check_place(call)
        before, behaviour = self._store.get(call.id), self._services.behaviour(kind)
        check_conditions(call, before)
        self._check_free(before, behaviour)
        self._locks.check(call.id, "write")
        resource = merged(copied(before), {k: v for k, v in call.body.items() if k != "tags"})
        if call.body.get("tags") is not None:
            resource["tags"] = call.body["tags"]
        return self._keep(call, behaviour, resource, before, call.route.status(200, 202))

    def _made(self, call: Call, kind: str, before: Resource | None) -> Resource:
        """The resource of a body: it takes the place of all that was written before."""
        written = {k: v for k, v in copied(call.body).items() if v is not None}
        id_ = before["id"] if before else call.id.rstrip("/")
        resource = {"id": id_, "name": name_of(id_), "type": kind, **written}
        if before and resource.get("location") is None and "location" in before:
            resource["location"] = before["location"]
        if resource.get("location"):
            resource["location"] = plain_location(resource["location"])
        for member in self._services.behaviour(kind).children:
            if before and member not in (written.get("properties") or {}):
                resource.setdefault("properties", {})[member] = []
        return resource

    def _keep(
        self, call: Call, behaviour: Behaviour, resource: Resource, before: Resource | None, status: int
    ) -> Answer:  # fmt: skip
        model = self._model(call)
        for admit in self._world.admission:
            admit(call, resource)
        behaviour.check(call, resource, before)
        children = self._take_children(call, behaviour, resource)
        if "etag" in model.members:
            resource["etag"] = self._store.etag()
        stateful = _has_state(model)
        if stateful:
            resource.setdefault("properties", {})["provisioningState"] = "Updating" if before else "Creating"
        self._store.put(resource)
        for put_child in children:
            put_child()
        behaviour.begun(call, resource, before)
        if not call.route.long:
            if stateful:
                resource["properties"]["provisioningState"] = "Succeeded"
            behaviour.finish(resource)
            return Answer(status, self.shown(resource, {}))
        return self._under_way(call, behaviour, resource, before, status)

    def _under_way(
        self, call: Call, behaviour: Behaviour, resource: Resource, before: Resource | None, status: int
    ) -> Answer:  # fmt: skip
        def finish() -> None:
            if self._store.find(resource["id"]) is not resource:
                return  # it was deleted, or written again, meanwhile
            behaviour.finish(resource)
            if resource["properties"].get("provisioningState") in ("Creating", "Updating"):
                resource["properties"]["provisioningState"] = "Succeeded"

        def failed(failure: Failure) -> None:
            resource.setdefault("properties", {})["provisioningState"] = "Failed"
            behaviour.failed(resource, failure)

        operation = self._operations.begin(
            call, resource["id"], resource.get("location", ""), finish, behaviour.seconds(resource, before), failed
        )  # fmt: skip
        return Answer(status, self.shown(resource, {}), self._operations.headers(operation, both=status == 202))

    def _delete(self, call: Call, kind: str) -> Answer:
        found, behaviour = self._store.find(call.id), self._services.behaviour(kind)
        if found is None:
            self._check_place(call)
            return Answer(204)
        check_conditions(call, found)
        self._locks.check(call.id, "delete")
        behaviour.check_delete(call, found)
        self.begin_delete(found)
        if not call.route.long:
            shown = self.shown(found, {})
            self.forget(found)
            return Answer(call.route.status(200, 204), shown)
        operation = self._operations.begin(
            call, found["id"], found.get("location", ""), lambda: self.forget(found), behaviour.delete_seconds(found),
            lambda failure: found.setdefault("properties", {}).update(provisioningState="Failed"),
        )  # fmt: skip
        return Answer(202, None, self._operations.headers(operation))

    def begin_delete(self, resource: Resource) -> None:
        if "provisioningState" in resource.get("properties", {}):
            resource["properties"]["provisioningState"] = "Deleting"
        self._services.behaviour(resource["type"]).deleting(resource)

    def forget(self, resource: Resource) -> None:
        """It is gone, with all below it."""
        if self._store.find(resource["id"]) is not resource:
            return
        below = self._store.below(resource["id"])
        self._store.remove(resource["id"])
        for each in (resource, *below):
            self._services.behaviour(each.get("type", "")).deleted(each)

    # ------------------------------------------------------------ children in the body of their parent

    def _take_children(self, call: Call, behaviour: Behaviour, resource: Resource) -> list[Callable[[], None]]:
        """What makes resources of its own of the entries of a list; those that it leaves out end."""
        steps: list[Callable[[], None]] = []
        for member, last in behaviour.children.items():
            entries = resource.get("properties", {}).pop(member, None)
            if entries is None:
                continue
            kind = f"{resource['type']}/{last}"
            wanted = {f"{resource['id']}/{last}/{entry.get('name', '')}".lower() for entry in entries}
            for old in self._store.children(resource["id"], kind):
                if old["id"].lower() not in wanted:
                    self._services.behaviour(kind).check_delete(call, old)
                    steps.append(lambda old=old: self.forget(old))
            steps.extend(self._child(call, resource, kind, entry) for entry in entries)
        return steps

    def _child(self, call: Call, parent: Resource, kind: str, entry: dict[str, Any]) -> Callable[[], None]:
        if not entry.get("name"):
            raise Refusal(400, "InvalidRequestFormat", f"A {kind} in {parent['id']} has no name.")
        id_ = f"{parent['id']}/{kind.rpartition('/')[2]}/{entry['name']}"
        before = self._store.find(id_)
        inner = self._services.behaviour(kind)
        child: Resource = {"id": id_, "name": entry["name"], "type": kind, "etag": self._store.etag()}
        child["properties"] = {**(entry.get("properties") or {}), "provisioningState": "Succeeded"}
        inner.check(call, child, before)

        def put() -> None:
            self._store.put(child)
            inner.begun(call, child, before)
            inner.finish(child)

        return put

    # ------------------------------------------------------------ how it looks

    def shown(self, resource: Resource, query: dict[str, str]) -> Resource:
        """As an answer has it."""
        found, behaviour = copied(resource), self._services.behaviour(resource.get("type", ""))
        for member, last in behaviour.children.items():
            kind = f"{resource['type']}/{last}"
            children = self._store.children(resource["id"], kind)
            found.setdefault("properties", {})[member] = [self.shown(child, {}) for child in children]
        behaviour.view(found, query)
        return found

    def _list(self, call: Call, kind: str) -> Answer:
        self._check_place(call)
        return self.page(call, [self.shown(r, call.query) for r in self._members(call, kind)], kind)

    def _members(self, call: Call, kind: str) -> list[Resource]:
        behaviour = self._services.behaviour(kind)
        scope = call.id.rpartition("/providers/")[0] if not parent_of(call.id + "/x") else parent_of(call.id + "/x")
        found = self._store.of_type(kind, scope)
        return [r for r in found if self.visible(r) and behaviour.listed(r)]

    def visible(self, resource: Resource) -> bool:
        """Lists hear of a new resource later than whoever asks for it."""
        world = self._world
        return not world.visible_after or world.clock() >= self._store.since(resource["id"]) + world.visible_after

    def page(self, call: Call, rows: list[Any], kind: str = "") -> Answer:
        """One page of a list, and where the next one is."""
        size = min(self._world.page_size, self._world.page_sizes.get(kind.lower(), 10**9))
        begin = int(call.query.get("$skiptoken", 0))
        body: dict[str, Any] = {"value": rows[begin : begin + size]}
        if begin + size < len(rows):
            query = {**call.query, "$skiptoken": str(begin + size), "api-version": call.route.version}
            text = "&".join(f"{quote(k, safe='$')}={quote(v)}" for k, v in query.items())
            body["nextLink"] = f"{self._operations.url}{call.id}?{text}"
        return Answer(200, body)

    # ------------------------------------------------------------ what refuses

    def _check_place(self, call: Call) -> None:
        """The group and the parent exist, and are not on their way out."""
        group_id = group_of(call.id)
        if group_id:
            group = self._store.find(group_id)
            if group is None:
                raise group_not_found(name_of(group_id))
            if group["properties"]["provisioningState"] == "Deleting" and call.route.verb in ("PUT", "PATCH"):
                name = group["name"]
                message = f"The resource group '{name}' is in deprovisioning state and cannot perform this operation."
                raise Refusal(409, "ResourceGroupBeingDeleted", message)
        parent = parent_of(call.id if call.route.segments[-1].startswith("{") else call.id + "/x")
        if parent and self._store.find(parent) is None and type_of(parent).lower() in routes().types:
            if call.route.verb in ("PUT", "PATCH"):
                message = (
                    f"Failed to perform '{call.route.verb.lower()}' on resource(s) of type '{type_of(call.id)}', because the "
                    f"parent resource '{parent}' could not be found."
                )
                raise Refusal(404, "ParentResourceNotFound", message)
            raise not_found(parent)

    def _check_free(self, before: Resource | None, behaviour: Behaviour) -> None:
        if before is None:
            return
        state = before.get("properties", {}).get("provisioningState")
        if state == "Deleting":
            message = f"The operation cannot be completed because the resource '{before['name']}' is being deleted."
            raise Refusal(409, "OperationNotAllowed", message)
        if before["type"].startswith("Microsoft.Network/") and self._operations.pending(before["id"]):
            message = "Another operation on this or dependent resource is in progress."
            raise Refusal(429, "AnotherOperationInProgress", message)

    def _model(self, call: Call) -> Model:
        """What a PUT of this type takes: its members say what Azure adds."""
        put = routes().find("PUT", call.id)[0] or call.route
        assert put.body is not None, call.route.operation
        return put.body.model()


def check_region(resource: Resource) -> None:
    """A new resource is in a region that there is."""
    location, kind = resource.get("location"), resource["type"]
    if not location:
        raise Refusal(400, "LocationRequired", "The location property is required for this definition.")
    if location not in REGIONS and location not in GLOBAL:
        known = ",".join(sorted(REGIONS))
        raise Refusal(
            400, "LocationNotAvailableForResourceType",
            f"The provided location '{location}' is not available for resource type '{kind}'. List of available regions for the "
            f"resource type is '{known}'.",
        )  # fmt: skip


def check_location(resource: Resource, before: Resource | None) -> None:
    """It stays where it was made."""
    here, there = resource.get("location"), (before or {}).get("location")
    if here and there and here != there:
        raise Refusal(
            409, "InvalidResourceLocation",
            f"The resource '{resource['name']}' already exists in location '{there}' in resource group "
            f"'{name_of(group_of(resource['id']))}'. A resource with the same name cannot be created in location '{here}'. "
            "Please select a new resource name.",
        )  # fmt: skip


def _has_state(model: Model) -> bool:
    properties = model.members.get("properties")
    return (
        properties is not None
        and properties.type.kind == "model"
        and "provisioningState" in properties.type.model().members
    )


def plain_location(text: str) -> str:
    """`East US` is eastus."""
    return text.replace(" ", "").lower()


def merged(resource: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """As PATCH does it: members that are given take the place of those that were, deep; null takes them away."""
    for key, value in changes.items():
        if value is None:
            resource.pop(key, None)
        elif isinstance(value, dict) and isinstance(resource.get(key), dict):
            merged(resource[key], value)
        else:
            resource[key] = value
    return resource


def check_conditions(call: Call, before: Resource | None) -> None:
    """If-Match and If-None-Match."""
    none, some = call.headers.get("If-None-Match"), call.headers.get("If-Match")
    if none == "*" and before is not None:
        raise Refusal(
            412, "PreconditionFailed",
            f"The condition '*' in the If-None-Match header was not satisfied. The current etag is '{before.get('etag', '')}'.",
        )  # fmt: skip
    if some and some != "*" and (before is None or before.get("etag") != some):
        have = before.get("etag", "") if before else ""
        message = f"The condition '{some}' in the If-Match header was not satisfied. The current etag is '{have}'."
        raise Refusal(412, "PreconditionFailed", message)


def filtered(rows: list[Resource], text: str) -> list[Resource]:
    """By a $filter of `NAME eq 'VALUE'` and `and`. Raises Violation for any other."""
    if not text:
        return rows
    found = {name.lower(): value for name, value in _FILTER.findall(text)}
    if _FILTER.sub("", text).replace("and", "").strip():
        raise Violation(400, "InvalidFilterInQueryString", f"Invalid $filter '{text}' specified in the query string.")
    tag, value = found.pop("tagname", None), found.pop("tagvalue", None)
    for_tag = [r for r in rows if tag is None or _tagged(r, tag, value)]
    members = {"resourcetype": "type", "name": "name", "location": "location"}
    wanted = {members[name]: text.lower() for name, text in found.items()}
    return [r for r in for_tag if all(str(r.get(member, "")).lower() == text for member, text in wanted.items())]


def _tagged(resource: Resource, name: str, value: str | None) -> bool:
    tags = resource.get("tags") or {}
    return name in tags and (value is None or tags[name] == value)
