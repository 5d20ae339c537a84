"""Azure Policy: assignments of some of Azure's own definitions, alone or in initiatives, which refuse what does not fit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.cloud.azure.resources import Resources
from tests.cloud.azure.services import Answer, Call, Services
from tests.cloud.azure.store import Resource, Store, copied, name_of
from tests.cloud.azure.world import SUBSCRIPTION, Refusal, World

ROOT = f"/subscriptions/{SUBSCRIPTION}"
ASSIGNMENT = "Microsoft.Authorization/policyAssignments"
DEFINITIONS = "/providers/Microsoft.Authorization/policyDefinitions"
SETS = "/providers/Microsoft.Authorization/policySetDefinitions"
LOCATIONS, GROUP_LOCATIONS = "e56962a6-4747-49cd-b67b-bf8b01975c4c", "e765b5de-1225-4ba3-bd56-1ac6695af988"
SIZES, TYPES = "cccc23c7-8427-4f53-ad12-b6a63eb452b3", "a08ec900-254a-4555-9bf5-e42af04b5c5c"
NO_TYPES, NO_PUBLIC = "6c112d4e-5bc7-47ae-a041-ea2d9dccd749", "83a86a26-fd1f-447c-b59d-e51f44264114"
TAG, GROUP_TAG = "871b6d14-10aa-478d-b590-94f262ecfa99", "96670d01-0a4d-4649-9c89-2d3abc0a5025"
_GROUP = "Microsoft.Resources/resourceGroups"


class Policies:
    def __init__(self, world: World, services: Services, store: Store, resources: Resources) -> None:
        self._store, self._resources = store, resources
        world.admission.append(self._admit)
        for operation in (
            "policyAssignments.list", "policyAssignments.listForResourceGroup", "policyAssignments.listForManagementGroup",
        ):  # fmt: skip
            services.on(operation, self._list)
        services.on("policySetDefinitions.getBuiltIn", lambda call: copied(self._store.get(call.id)))

    # ------------------------------------------------------------ for tests

    def assign(self, name: str, definition: str, scope: str = ROOT, **parameters: Any) -> Resource:
        """`definition`: the guid of one of Azure's own, or the id of a set."""
        whole = definition if definition.startswith("/") else f"{DEFINITIONS}/{definition}"
        properties: dict[str, Any] = {
            "displayName": name, "policyDefinitionId": whole, "scope": scope, "enforcementMode": "Default", "notScopes": [],
            "parameters": {key: {"value": value} for key, value in parameters.items()},
        }  # fmt: skip
        short = name.lower().replace(" ", "-")
        row = {
            "id": f"{scope}/providers/{ASSIGNMENT}/{short}",
            "name": short,
            "type": ASSIGNMENT,
            "properties": properties,
        }
        self._store.put(row)
        return row

    def add_set(self, name: str, *members: tuple[str, Mapping[str, Any]], **defaults: Any) -> str:
        """An initiative of (guid, parameters). Returns its id."""
        rows = [
            {"policyDefinitionId": f"{DEFINITIONS}/{guid}", "parameters": {k: {"value": v} for k, v in given.items()}}
            for guid, given in members
        ]
        properties = {
            "displayName": name, "policyType": "BuiltIn", "policyDefinitions": rows,
            "parameters": {key: {"type": "Array", "defaultValue": value} for key, value in defaults.items()},
        }  # fmt: skip
        id_ = f"{SETS}/{name}"
        self._store.put(
            {"id": id_, "name": name, "type": "Microsoft.Authorization/policySetDefinitions", "properties": properties}
        )
        return id_

    # ------------------------------------------------------------ read

    def _list(self, call: Call) -> Answer:
        """With atScope(): those there and above; else those below as well."""
        scope = call.id.rpartition("/providers/")[0]
        rows = [
            copied(row) for row in self._store.of_type(ASSIGNMENT)
            if _covers(_scope(row), scope) or (_covers(scope, _scope(row)) and "atScope" not in call.query.get("$filter", ""))
        ]  # fmt: skip
        return self._resources.page(call, rows)

    # ------------------------------------------------------------ and in force

    def _admit(self, call: Any, resource: dict[str, Any]) -> None:
        for row in self._store.of_type(ASSIGNMENT):
            properties = row["properties"]
            if not _covers(_scope(row), resource["id"]) or properties["enforcementMode"] != "Default":
                continue
            if any(_covers(one, resource["id"]) for one in properties["notScopes"]):
                continue
            given = {key: one["value"] for key, one in properties["parameters"].items()}
            for guid, parameters in self._members(properties["policyDefinitionId"], given):
                if _refuses(guid, parameters, resource):
                    raise _disallowed(row, guid, resource)

    def _members(self, definition: str, given: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        found = self._store.find(definition)
        if found is None:
            return [(name_of(definition), given)]
        known = {**{k: one["defaultValue"] for k, one in found["properties"]["parameters"].items()}, **given}

        def value(text: Any) -> Any:
            name = (
                text[len("[parameters('") : -len("')]")]
                if isinstance(text, str) and text.startswith("[parameters(")
                else ""
            )
            return known[name] if name else text

        return [
            (name_of(one["policyDefinitionId"]), {k: value(v["value"]) for k, v in one["parameters"].items()})
            for one in found["properties"]["policyDefinitions"]
        ]


def _refuses(guid: str, given: Mapping[str, Any], resource: Mapping[str, Any]) -> bool:
    kind, location = resource["type"], str(resource.get("location") or "")
    tags = {key.lower() for key in resource.get("tags") or ()}
    if guid in (LOCATIONS, GROUP_LOCATIONS):
        concerned = (kind == _GROUP) == (guid == GROUP_LOCATIONS) and location not in ("", "global")
        return concerned and location not in given["listOfAllowedLocations"]
    if guid == SIZES and kind == "Microsoft.Compute/virtualMachines":
        return resource["properties"]["hardwareProfile"]["vmSize"] not in given["listOfAllowedSKUs"]
    if guid == TYPES:
        return kind != _GROUP and kind.lower() not in map(str.lower, given["listOfResourceTypesAllowed"])
    if guid == NO_TYPES:
        return kind.lower() in map(str.lower, given["listOfResourceTypesNotAllowed"])
    if guid in (TAG, GROUP_TAG):
        return (kind == _GROUP) == (guid == GROUP_TAG) and "tags" in resource and given["tagName"].lower() not in tags
    if guid == NO_PUBLIC and kind == "Microsoft.Compute/virtualMachines":
        return "publicIPAddressConfiguration" in json.dumps(resource)
    return False


def _disallowed(assignment: Mapping[str, Any], guid: str, resource: Mapping[str, Any]) -> Refusal:
    name = assignment["properties"]["displayName"]
    identifiers = [{
        "policyAssignment": {"name": name, "id": assignment["id"]},
        "policyDefinition": {"name": name, "id": f"{DEFINITIONS}/{guid}"},
    }]  # fmt: skip
    message = (
        f"Resource '{resource['name']}' was disallowed by policy. Policy identifiers: '{json.dumps(identifiers)}'."
    )
    return Refusal(403, "RequestDisallowedByPolicy", message, resource["name"])


def _scope(row: Mapping[str, Any]) -> str:
    return row["id"].rpartition("/providers/")[0]


def _covers(scope: str, inner: str) -> bool:
    return f"{inner}/".lower().startswith(f"{scope}/".lower())
