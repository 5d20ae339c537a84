"""Identities, roles and policies of the stand-in for Azure, as Microsoft's own clients see them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.authorization import AuthorizationManagementClient
from azure.mgmt.msi import ManagedServiceIdentityClient
from azure.mgmt.resource.resources import ResourceManagementClient

from tests.cloud.azure import conditions
from tests.cloud.azure.assignments import OWNER, READER, ROOT
from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.policies import LOCATIONS, TAG


@pytest.fixture
def cloud() -> Iterator[AzureCloud]:
    with AzureCloud() as cloud:
        cloud.client(ResourceManagementClient).resource_groups.create_or_update("g", {"location": "eastus"})
        yield cloud


@pytest.fixture
def identity(cloud: AzureCloud) -> Any:
    client = cloud.client(ManagedServiceIdentityClient)
    return client.user_assigned_identities.create_or_update("g", "head", {"location": "eastus"})


def rights(cloud: AzureCloud, application: Any = None) -> AuthorizationManagementClient:
    return cloud.client(AuthorizationManagementClient, application)


def give(
    cloud: AzureCloud, principal: str, role: str = READER, scope: str = ROOT, name: str = "", application: Any = None
) -> Any:
    body = {"properties": {
        "roleDefinitionId": f"{ROOT}/providers/Microsoft.Authorization/roleDefinitions/{role}", "principalId": principal,
        "principalType": "ServicePrincipal",
    }}  # fmt: skip
    return rights(cloud, application).role_assignments.create(scope.strip("/"), name or str(uuid.uuid4()), body)  # type: ignore[arg-type]


def code(caught: pytest.ExceptionInfo[HttpResponseError]) -> str:
    assert caught.value.error is not None
    return str(caught.value.error.code)


def test_an_identity_is_a_principal_that_keeps_its_id(cloud: AzureCloud, identity: Any) -> None:
    again = cloud.client(ManagedServiceIdentityClient).user_assigned_identities.create_or_update(
        "g", "head", {"location": "eastus", "tags": {"a": "b"}}
    )
    assert (
        again.principal_id == identity.principal_id
        and again.client_id == identity.client_id
        and again.tags == {"a": "b"}
    )


def test_an_assignment_is_one_for_the_same_principal_role_and_scope(cloud: AzureCloud, identity: Any) -> None:
    name = str(uuid.uuid4())
    assert give(cloud, identity.principal_id, name=name).id == give(cloud, identity.principal_id, name=name).id
    with pytest.raises(HttpResponseError) as caught:
        give(cloud, identity.principal_id)
    assert code(caught) == "RoleAssignmentExists"
    with pytest.raises(HttpResponseError) as caught:
        give(cloud, str(uuid.uuid4()))
    assert code(caught) == "PrincipalNotFound"
    found = rights(cloud).role_assignments.list_for_subscription(filter=f"principalId eq '{identity.principal_id}'")
    assert [row.name for row in found] == [name]


def test_an_assignment_outlives_its_principal_and_goes_with_the_group(cloud: AzureCloud, identity: Any) -> None:
    give(cloud, identity.principal_id, scope=f"{ROOT}/resourceGroups/g")
    give(cloud, identity.principal_id)
    cloud.client(ManagedServiceIdentityClient).user_assigned_identities.delete("g", "head")
    assert len(cloud.rights.orphans()) == 2
    cloud.client(ResourceManagementClient).resource_groups.begin_delete("g").result()
    assert len(cloud.rights.orphans()) == 1


def test_whoever_has_no_role_may_do_nothing_and_one_with_a_role_what_it_says_there(cloud: AzureCloud) -> None:
    nobody = cloud.rights.add("nobody")
    groups = cloud.client(ResourceManagementClient, nobody).resource_groups
    with pytest.raises(HttpResponseError) as caught:
        list(groups.list())
    assert code(caught) == "AuthorizationFailed"
    cloud.rights.allow(nobody.principal, ["Microsoft.Resources/*/READ"], f"{ROOT}/resourceGroups/g")
    assert groups.get("g").name == "g"
    with pytest.raises(HttpResponseError):
        groups.create_or_update("g", {"location": "eastus"})
    with pytest.raises(HttpResponseError):
        list(groups.list())


def test_a_contributor_gives_no_roles_away(cloud: AzureCloud, identity: Any) -> None:
    contributor = cloud.rights.add("contributor")
    cloud.rights.give(contributor.principal, "b24988ac-6180-42a0-ab88-20f7382dd24c")
    with pytest.raises(HttpResponseError) as caught:
        give(cloud, identity.principal_id, OWNER, application=contributor)
    assert code(caught) == "AuthorizationFailed"


def test_a_custom_role_has_a_name_of_its_own_and_is_not_deleted_while_it_is_given(
    cloud: AzureCloud, identity: Any
) -> None:
    roles, guid = rights(cloud).role_definitions, str(uuid.uuid4())
    body: Any = {"properties": {"roleName": "mine", "type": "CustomRole", "assignableScopes": [ROOT],
                                "permissions": [{"actions": ["Microsoft.Compute/*/read"]}]}}  # fmt: skip
    roles.create_or_update(ROOT.strip("/"), guid, body)
    with pytest.raises(HttpResponseError) as caught:
        roles.create_or_update(ROOT.strip("/"), str(uuid.uuid4()), body)
    assert code(caught) == "RoleDefinitionWithSameNameExists"
    assert [row.name for row in roles.list(ROOT.strip("/"), filter="roleName eq 'mine'")] == [guid]
    give(cloud, identity.principal_id, guid)
    with pytest.raises(HttpResponseError) as caught:
        roles.delete(ROOT.strip("/"), guid)
    assert code(caught) == "RoleDefinitionHasAssignments"


def test_one_may_ask_what_one_may(cloud: AzureCloud) -> None:
    somebody = cloud.rights.add("somebody", "Microsoft.Authorization/permissions/read", "Microsoft.Compute/*")
    cloud.world.denied = {"Microsoft.Compute/disks/write"}
    (found,) = rights(cloud, somebody).permissions.list_for_resource_group("g")
    assert found.actions == ["Microsoft.Authorization/permissions/read", "Microsoft.Compute/*"]
    assert found.not_actions == ["Microsoft.Compute/disks/write"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ActionMatches{'A/write'}", True),
        ("!(ActionMatches{'A/write'})", False),
        ("(!(ActionMatches{'B'})) OR (@Request[a:b] ForAnyOfAnyValues:GuidEquals {1})", True),
        ("(ActionMatches{'A/write'}) AND (@Request[a:b] ForAnyOfAnyValues:GuidEquals {1, 2})", True),
        ("(ActionMatches{'A/write'}) AND (@Request[a:b] ForAnyOfAnyValues:GuidEquals {3})", False),
        ("@Request[a:c] ForAnyOfAnyValues:StringEqualsIgnoreCase {'SERVICE'}", True),
    ],
)
def test_a_condition_is_read_as_azure_reads_it(text: str, expected: bool) -> None:
    assert conditions.holds(text, "a/write", {"@request[a:b]": "2", "@request[a:c]": "service"}) is expected


@pytest.mark.parametrize("text", ["", "(ActionMatches{'A'}", "ActionMatches{'A'} what", "ActionMatches{'A'} AND", ")"])
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"unexpected|missing|early"):
        conditions.holds(text, "a", {})


def test_a_policy_refuses_what_does_not_fit_and_names_itself(cloud: AzureCloud) -> None:
    cloud.policies.assign("Here only", LOCATIONS, listOfAllowedLocations=["eastus"])
    elsewhere = cloud.policies.add_set("tags", (TAG, {"tagName": "[parameters('which')]"}), which="owner")
    cloud.policies.assign("With an owner", elsewhere)
    identities = cloud.client(ManagedServiceIdentityClient).user_assigned_identities
    with pytest.raises(HttpResponseError, match=r"disallowed by policy.*Here only") as caught:
        identities.create_or_update("g", "one", {"location": "westeurope", "tags": {"owner": "me"}})
    assert code(caught) == "RequestDisallowedByPolicy"
    with pytest.raises(HttpResponseError, match="With an owner"):
        identities.create_or_update("g", "one", {"location": "eastus", "tags": {}})
    assert identities.create_or_update("g", "one", {"location": "eastus", "tags": {"Owner": "me"}}).name == "one"
