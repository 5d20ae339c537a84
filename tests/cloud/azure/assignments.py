"""Who may what: roles, and who has which of them at which scope; every call of every service is judged by them."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from tests.cloud.azure import conditions
from tests.cloud.azure.identities import IDENTITY, Identities
from tests.cloud.azure.resources import Resources
from tests.cloud.azure.services import Answer, Call, Services
from tests.cloud.azure.store import Resource, Store, copied, name_of
from tests.cloud.azure.tokens import Application, Tokens
from tests.cloud.azure.world import SUBSCRIPTION, TENANT, Principal, Refusal, World

ROOT = f"/subscriptions/{SUBSCRIPTION}"
_OF = "/providers/Microsoft.Authorization/"
ASSIGNMENT, DEFINITION = "Microsoft.Authorization/roleAssignments", "Microsoft.Authorization/roleDefinitions"
ASSIGN, UNASSIGN = f"{ASSIGNMENT}/write", f"{ASSIGNMENT}/delete"
OWNER, CONTRIBUTOR = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635", "b24988ac-6180-42a0-ab88-20f7382dd24c"
READER, OPERATOR = "acdd72a7-3385-48ef-bd42-f606fba81ae7", "f1a07417-d97a-45cb-824c-7a7467783830"
_BUILT_IN: dict[str, tuple[str, list[str], list[str]]] = {
    OWNER: ("Owner", ["*"], []),
    CONTRIBUTOR: (
        "Contributor",
        ["*"],
        ["Microsoft.Authorization/*/Delete", "Microsoft.Authorization/*/Write", "Microsoft.Authorization/elevateAccess/Action"],
    ),
    READER: ("Reader", ["*/read"], []),
    OPERATOR: (
        "Managed Identity Operator",
        [f"{IDENTITY}/*/read", f"{IDENTITY}/*/assign/action", f"{IDENTITY}/read", f"{IDENTITY}/assign/action"],
        [],
    ),
}  # fmt: skip
_FILTER = re.compile(r"(principalId|roleName|type) eq '([^']*)'|atScope\(\)", re.I)
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.I)


class Rights:
    """`slow_roles`: seconds for which a new role is not known everywhere."""

    def __init__(
        self, world: World, services: Services, store: Store, resources: Resources, tokens: Tokens, identities: Identities
    ) -> None:  # fmt: skip
        self._world, self._store, self._resources = world, store, resources
        self._tokens, self._identities = tokens, identities
        self.slow_roles = 0.0
        for guid, (name, actions, exceptions) in _BUILT_IN.items():
            self._store.put(_definition(f"{ROOT}{_OF}roleDefinitions/{guid}", name, actions, exceptions, "BuiltInRole"))
        for operation, handler in {
            "roleAssignments.create": self._assign, "roleAssignments.delete": self._unassign,
            "roleAssignments.listForSubscription": self._list, "roleAssignments.listForResourceGroup": self._list,
            "roleAssignments.listForScope": self._list, "roleDefinitions.createOrUpdate": self._define,
            "roleDefinitions.list": self._list_roles, "roleDefinitions.delete": self._undefine,
        }.items():  # fmt: skip
            services.on(operation, handler)
        world.policy = self.permits

    # ------------------------------------------------------------ for tests

    def add(self, name: str, *actions: str, scope: str = ROOT) -> Application:
        """An application that may do these, and nothing else."""
        application = self._tokens.add(name)
        if actions:
            self.allow(application.principal, actions, scope)
        return application

    def allow(self, principal: Principal, actions: Iterable[str], scope: str = ROOT, condition: str = "") -> str:
        """By a role of its own with these. Returns its guid."""
        guid = str(uuid.uuid4())
        self._store.put(_definition(f"{ROOT}{_OF}roleDefinitions/{guid}", f"a test's {guid}", list(actions), []))
        self.give(principal, guid, scope, condition)
        return guid

    def give(self, principal: Principal, role: str, scope: str = ROOT, condition: str = "") -> None:
        more = {"condition": condition, "conditionVersion": "2.0"} if condition else {}
        properties = {
            "principalId": principal.object_id, "principalType": "ServicePrincipal", "scope": scope,
            "roleDefinitionId": f"{ROOT}{_OF}roleDefinitions/{role}", **more,
        }  # fmt: skip
        name = str(uuid.uuid4())
        row = {"id": f"{scope}{_OF}roleAssignments/{name}", "name": name, "type": ASSIGNMENT, "properties": properties}
        self._store.put(row)

    def roles_of(self, object_id: str) -> dict[str, str]:
        """Scope -> the name of the role there, of one principal, whether it is there or not."""
        rows = [row["properties"] for row in self._assignments() if row["properties"]["principalId"] == object_id]
        return {row["scope"]: self._role(row["roleDefinitionId"])["properties"]["roleName"] for row in rows}

    def orphans(self) -> list[str]:
        """Ids of assignments whose principal is gone."""
        return [row["id"] for row in self._assignments() if not self._principal(row["properties"]["principalId"])]

    # ------------------------------------------------------------ who may what

    def permits(self, principal: Principal, action: str, scope: str) -> bool:
        if scope.lower().startswith("/providers/"):
            return action.endswith("/read")  # what is Azure's own is for everybody to read
        return any(True for _ in self._granting(principal, action, scope))

    def _granting(self, principal: Principal, action: str, scope: str) -> Iterable[Resource]:
        for row in self.reaching(principal, scope):
            if any(
                _has(one, action)
                for one in self._role(row["properties"]["roleDefinitionId"])["properties"]["permissions"]
            ):
                yield row

    def reaching(self, principal: Principal, scope: str) -> list[Resource]:
        """The assignments of the principal there, and above it."""
        return [
            row for row in self._assignments()
            if row["properties"]["principalId"] == principal.object_id and _covers(row["properties"]["scope"], scope)
        ]  # fmt: skip

    def permissions_of(self, assignment: Resource) -> list[dict[str, Any]]:
        return self._role(assignment["properties"]["roleDefinitionId"])["properties"]["permissions"]

    def _assignments(self) -> list[Resource]:
        return self._store.of_type(ASSIGNMENT)

    def _role(self, id_: str) -> Resource:
        """Known by its guid: its id may begin with any scope."""
        found = self._store.find(f"{ROOT}{_OF}roleDefinitions/{name_of(id_)}")
        if found is None or (
            self._slow(found) and self._world.clock() < self._store.since(found["id"]) + self._slow(found)
        ):
            message = f"The specified role definition with ID '{name_of(id_).replace('-', '')}' does not exist."
            raise Refusal(404, "RoleDefinitionDoesNotExist", message)
        return found

    def _slow(self, role: Resource) -> float:
        return self.slow_roles if role["properties"]["type"] == "CustomRole" else 0.0

    def _principal(self, object_id: str) -> Principal | None:
        known = [*self._tokens.identities.values(), *(a.principal for a in self._tokens.applications.values())]
        return next((one for one in known if one.object_id == object_id), None)

    # ------------------------------------------------------------ assignments

    def _assign(self, call: Call) -> Answer:
        scope, name = f"/{call.path['scope']}", call.path["roleAssignmentName"]
        given = call.body["properties"]
        if not _GUID.fullmatch(name):
            raise Refusal(
                400, "InvalidRoleAssignmentId", f"The role assignment ID '{name}' is not valid. It must be a GUID."
            )
        if not self._identities.is_known(given["principalId"]) or self._principal(given["principalId"]) is None:
            principal = given["principalId"].replace("-", "")
            message = (
                f"Principal {principal} does not exist in the directory {TENANT}. Check that you have the "
                "correct principal ID. If you are creating this principal and then immediately assigning a role, this error "
                "might be related to a replication delay."
            )
            raise Refusal(400, "PrincipalNotFound", message)
        role = self._role(given["roleDefinitionId"])
        if not any(_covers(one, scope) for one in role["properties"]["assignableScopes"]):
            message = f"The role definition '{role['name']}' is not assignable at the scope '{scope}'."
            raise Refusal(400, "RoleDefinitionHasNoAssignableScope", message)
        self._need_condition(call, ASSIGN, given)
        before = self._store.find(call.id)
        for row in self._assignments():
            if row["id"].lower() != call.id.lower() and _same(row["properties"], scope, given):
                raise Refusal(409, "RoleAssignmentExists", "The role assignment already exists.")
        if before and not _same(before["properties"], scope, given):
            message = "Tenant ID, application ID, principal ID, and scope are not allowed to be updated."
            raise Refusal(400, "RoleAssignmentUpdateNotPermitted", message)
        row = {"id": call.id, "name": name, "type": ASSIGNMENT, "properties": {**copied(given), "scope": scope}}
        self._store.put(row)
        return Answer(200 if before else 201, copied(row))

    def _unassign(self, call: Call) -> Answer:
        found = self._store.find(call.id)
        if found is None:
            return Answer(204)
        self._need_condition(call, UNASSIGN, found["properties"])
        self._store.remove(call.id)
        return Answer(200, copied(found))

    def _need_condition(self, call: Call, action: str, assignment: Mapping[str, Any]) -> None:
        """One of those that let the caller do this does so for this role and principal."""
        if self._world.policy is None:
            return
        attributes = {
            f"@{where}[microsoft.authorization/roleassignments:{name}]": value
            for where in ("request", "resource")
            for name, value in {
                "roledefinitionid": name_of(assignment["roleDefinitionId"]), "principalid": assignment["principalId"],
                "principaltype": assignment.get("principalType", ""),
            }.items()
        }  # fmt: skip
        for row in self._granting(call.principal, action, call.id):
            condition = row["properties"].get("condition") or ""
            if not condition or conditions.holds(condition, action, attributes):
                return
        raise Refusal(
            403, "AuthorizationFailed",
            f"The client '{call.principal.name}' with object id '{call.principal.object_id}' has an authorization with ABAC "
            f"condition that is not fulfilled to perform action '{action}' over scope '{call.id}' or the scope is invalid. If "
            "access was recently granted, please refresh your credentials.",
        )  # fmt: skip

    def _list(self, call: Call) -> Answer:
        """Those at the scope, above and below."""
        scope = call.id.rpartition("/providers/")[0]
        found = _FILTER.fullmatch(call.query.get("$filter", "")) if call.query.get("$filter") else None
        principal = found.group(2) if found and found.group(1) else ""
        rows = [
            copied(row) for row in self._assignments()
            if _covers(row["properties"]["scope"], scope) or _covers(scope, row["properties"]["scope"])
        ]  # fmt: skip
        return self._resources.page(
            call, [r for r in rows if not principal or r["properties"]["principalId"] == principal]
        )

    # ------------------------------------------------------------ roles

    def _define(self, call: Call) -> Answer:
        given, before = call.body["properties"], self._store.find(self._own_id(call))
        name = given.get("roleName", "")
        if not name or not given.get("assignableScopes") or not _GUID.fullmatch(name_of(call.id)):
            raise Refusal(
                400, "InvalidRoleDefinition", "The role definition needs a name, assignable scopes and a GUID."
            )
        for other in self._store.of_type(DEFINITION):
            if other["properties"]["roleName"].lower() == name.lower() and name_of(other["id"]) != name_of(call.id):
                message = f"A role definition cannot be updated with a name that already exists: '{name}'."
                raise Refusal(409, "RoleDefinitionWithSameNameExists", message)
        if before and before["properties"]["type"] == "BuiltInRole":
            raise Refusal(400, "InvalidRoleDefinition", "A role of Azure's own cannot be changed.")
        row = _definition(self._own_id(call), name, [], [], "CustomRole", given)
        self._store.put(row)
        return Answer(201, copied(row))

    def _undefine(self, call: Call) -> Answer:
        found = self._store.find(self._own_id(call))
        if found is None:
            return Answer(204)
        if any(name_of(row["properties"]["roleDefinitionId"]) == found["name"] for row in self._assignments()):
            message = "There are existing role assignments referencing role."
            raise Refusal(400, "RoleDefinitionHasAssignments", message)
        self._store.remove(found["id"])
        return Answer(200, copied(found))

    def _list_roles(self, call: Call) -> Answer:
        scope = call.id.rpartition("/providers/")[0]
        found = _FILTER.fullmatch(call.query.get("$filter", "")) if call.query.get("$filter") else None
        rows = [copied(row) for row in self._store.of_type(DEFINITION)]
        rows = [
            r
            for r in rows
            if any(_covers(one, scope) or _covers(scope, one) for one in r["properties"]["assignableScopes"])
        ]
        if found and found.group(1):
            member = {"rolename": "roleName", "type": "type"}[found.group(1).lower()]
            rows = [row for row in rows if row["properties"][member] == found.group(2)]
        return self._resources.page(call, rows)

    def _own_id(self, call: Call) -> str:
        return f"{ROOT}{_OF}roleDefinitions/{name_of(call.id)}"


def _definition(
    id_: str, name: str, actions: list[str], exceptions: list[str], kind: str = "CustomRole", given: Any = None
) -> Resource:  # fmt: skip
    permission = {"actions": actions, "notActions": exceptions, "dataActions": [], "notDataActions": []}
    usual = {"roleName": name, "description": "", "permissions": [permission], "assignableScopes": ["/"]}
    properties = {**usual, **copied(given or {}), "type": kind}
    return {"id": id_, "name": name_of(id_), "type": DEFINITION, "properties": properties}


def _covers(scope: str, inner: str) -> bool:
    return f"{inner.rstrip('/')}/".lower().startswith(f"{scope.rstrip('/')}/".lower())


def _same(row: Mapping[str, Any], scope: str, given: Mapping[str, Any]) -> bool:
    return (
        row["principalId"] == given["principalId"]
        and row["scope"].lower() == scope.lower()
        and name_of(row["roleDefinitionId"]).lower() == name_of(given["roleDefinitionId"]).lower()
    )


def _has(permission: Mapping[str, Any], action: str) -> bool:
    yes, no = (permission.get(key) or [] for key in ("actions", "notActions"))
    return any(_fits(action, one) for one in yes) and not any(_fits(action, one) for one in no)


def _fits(action: str, pattern: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), action, re.IGNORECASE) is not None
