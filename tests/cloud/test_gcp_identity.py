"""The stand-in's own rights: what Google refuses, it refuses, by its own clients' calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from googleapiclient.errors import HttpError

from tests.cloud.gcp import conditions as gcp_conditions
from tests.cloud.gcp.cloud import ADMIN, GcpCloud
from tests.cloud.gcp.world import PROJECT, Principal

RESOURCE = f"projects/{PROJECT}"
INSTANCE = f"{RESOURCE}/zones/us-central1-a/instances/"


@pytest.fixture(scope="module")
def cloud() -> Iterator[GcpCloud]:
    with GcpCloud() as cloud:
        yield cloud


def refusal(request: Any) -> tuple[int, str]:
    with pytest.raises(HttpError) as caught:
        request.execute()
    return caught.value.status_code, caught.value.reason


@pytest.mark.parametrize(
    ("expression", "resource", "holds"),
    [
        ("resource.type == 'compute.googleapis.com/Instance'", INSTANCE + "n", True),
        ("resource.type == 'compute.googleapis.com/Instance'", RESOURCE, False),
        ("resource.name.extract('/instances/{name}').startsWith('a-')", INSTANCE + "a-1", True),
        ("resource.name.extract('/instances/{name}').startsWith('a-')", INSTANCE + "b-a-1", False),
        ("resource.name.extract('-5f3a-{rest}') != ''", INSTANCE + "x-5f3a-1", True),
        ("resource.name.extract('-5f3a-{rest}') != ''", INSTANCE + "x-5f3a-", False),
        ("resource.name.extract('-5f3a-{rest}') != ''", INSTANCE + "x-5f3b-1", False),
        ("resource.name.extract('projects/{p}/zones') == 'clusterctl-test'", INSTANCE + "n", True),
        ("resource.name.endsWith('n') && (resource.type != 'x' || resource.name == '')", INSTANCE + "n", True),
    ],
)
def test_conditions_see_type_and_name_of_a_thing(expression: str, resource: str, holds: bool) -> None:
    assert gcp_conditions.holds(expression, resource) is holds


@pytest.mark.parametrize(
    "text", ["__import__('os')", "resource.", "user.name == 'x'", "1 + 1", "[x for x in resource]"]
)
def test_what_is_no_condition_is_refused(cloud: GcpCloud, text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        gcp_conditions.compiled(text)
    projects = cloud.client("cloudresourcemanager", "v3").projects()
    binding = {
        "role": "roles/owner",
        "members": [f"serviceAccount:{ADMIN}"],
        "condition": {"title": "t", "expression": text},
    }
    body = {"policy": {"version": 3, "bindings": [binding]}}
    assert refusal(projects.setIamPolicy(resource=RESOURCE, body=body))[0] == 400


def test_a_policy_that_was_changed_meanwhile_is_not_overwritten(cloud: GcpCloud) -> None:
    projects = cloud.client("cloudresourcemanager", "v3").projects()
    policy = projects.getIamPolicy(resource=RESOURCE, body={}).execute()
    cloud.rights.grant("ann@example.com", "roles/owner")
    code, text = refusal(projects.setIamPolicy(resource=RESOURCE, body={"policy": policy}))
    assert code == 409 and "concurrent policy changes" in text


def test_conditions_are_neither_shown_to_nor_lost_by_who_reads_an_older_version(cloud: GcpCloud) -> None:
    projects = cloud.client("cloudresourcemanager", "v3").projects()
    cloud.rights.grant("eve@example.com", "roles/owner", condition="resource.type == 'x'")
    older = projects.getIamPolicy(resource=RESOURCE, body={}).execute()
    assert not any("condition" in binding for binding in older["bindings"])
    code, text = refusal(projects.setIamPolicy(resource=RESOURCE, body={"policy": older}))
    assert code == 400 and "version must be 3" in text
    newer = projects.getIamPolicy(resource=RESOURCE, body={"options": {"requestedPolicyVersion": 3}}).execute()
    assert any("condition" in binding for binding in newer["bindings"])


def test_an_account_that_is_gone_stays_in_policies_by_its_number(cloud: GcpCloud) -> None:
    accounts = cloud.client("iam", "v1").projects().serviceAccounts()
    made = accounts.create(name=RESOURCE, body={"accountId": "for-a-while"}).execute()
    cloud.rights.grant(made["email"], "roles/iam.serviceAccountUser")
    assert cloud.rights.permits(Principal(made["email"]), "iam.serviceAccounts.actAs", RESOURCE)
    accounts.delete(name=made["name"]).execute()
    assert cloud.rights.members("roles/iam.serviceAccountUser") == [
        f"deleted:serviceAccount:{made['email']}?uid={made['uniqueId']}"
    ]
    assert not cloud.rights.permits(Principal(made["email"]), "iam.serviceAccounts.actAs", RESOURCE)
    assert refusal(accounts.get(name=made["name"])) == (404, "Unknown service account")


@pytest.mark.parametrize("name", ["short", "Upper-case-name", "ends-with-", "x" * 31, "1-begins-so"])
def test_a_name_that_google_does_not_take_is_refused(cloud: GcpCloud, name: str) -> None:
    accounts = cloud.client("iam", "v1").projects().serviceAccounts()
    assert refusal(accounts.create(name=RESOURCE, body={"accountId": name}))[0] == 400


def test_a_member_that_does_not_exist_and_a_role_that_does_not_exist_are_refused(cloud: GcpCloud) -> None:
    projects = cloud.client("cloudresourcemanager", "v3").projects()
    for role, member, said in (
        ("roles/owner", f"serviceAccount:nobody@{PROJECT}.iam.gserviceaccount.com", "does not exist"),
        (f"{RESOURCE}/roles/nothing", f"serviceAccount:{ADMIN}", "not supported"),
    ):
        body = {"policy": {"version": 3, "bindings": [{"role": role, "members": [member]}]}}
        code, text = refusal(projects.setIamPolicy(resource=RESOURCE, body=body))
        assert code == 400 and said in text


def test_whoever_has_no_right_is_refused_and_told_which(cloud: GcpCloud) -> None:
    key = cloud.add_account("looks-only", "compute.zones.list")
    accounts = cloud.client("iam", "v1", key).projects().serviceAccounts()
    code, text = refusal(accounts.list(name=RESOURCE))
    assert code == 403 and "'iam.serviceAccounts.list' denied" in text
    projects = cloud.client("cloudresourcemanager", "v3", key).projects()
    asked = {"permissions": ["compute.zones.list", "compute.instances.delete"]}
    assert projects.testIamPermissions(resource=RESOURCE, body=asked).execute() == {
        "permissions": ["compute.zones.list"]
    }
    assert refusal(projects.testIamPermissions(resource=RESOURCE, body={"permissions": ["compute.*"]}))[0] == 400


def test_a_project_that_one_may_not_see_is_as_one_that_is_not_there(cloud: GcpCloud) -> None:
    projects = cloud.client("cloudresourcemanager", "v3").projects()
    assert refusal(projects.testIamPermissions(resource="projects/nowhere", body={"permissions": ["compute.zones.list"]})) == (
        403, "The caller does not have permission"
    )  # fmt: skip


def test_an_api_can_be_enabled(cloud: GcpCloud) -> None:
    services = cloud.client("serviceusage", "v1").services()
    name = f"{RESOURCE}/services/iap.googleapis.com"
    cloud.world.disabled_services.add("iap.googleapis.com")
    assert services.get(name=name).execute()["state"] == "DISABLED"
    assert services.enable(name=name, body={}).execute()["done"]
    (found,) = services.batchGet(parent=RESOURCE, names=[name]).execute()["services"]
    assert found["state"] == "ENABLED"
