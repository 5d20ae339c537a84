"""The stand-in for Azure Resource Manager, as Microsoft's own clients see it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.mgmt.network import NetworkManagementClient
from azure.mgmt.resource.locks import ManagementLockClient
from azure.mgmt.resource.resources import ResourceManagementClient
from azure.mgmt.resource.subscriptions import SubscriptionClient

from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.world import SUBSCRIPTION


@pytest.fixture
def cloud() -> Iterator[AzureCloud]:
    with AzureCloud() as cloud:
        yield cloud


@pytest.fixture
def groups(cloud: AzureCloud):
    return cloud.client(ResourceManagementClient).resource_groups


@pytest.fixture
def network(cloud: AzureCloud, groups) -> NetworkManagementClient:
    groups.create_or_update("g", {"location": "eastus"})
    return cloud.client(NetworkManagementClient)


def code(error: pytest.ExceptionInfo[HttpResponseError]) -> str:
    assert error.value.error is not None
    return str(error.value.error.code)


def ask(cloud: AzureCloud, method: str, path: str, body=None, **more) -> requests.Response:
    token = cloud.credential().get_token(f"{cloud.url}/.default").token
    url = f"{cloud.url}/subscriptions/{SUBSCRIPTION}{path}"
    headers = {"Authorization": f"Bearer {token}", **more}
    return requests.request(method, url, json=body, headers=headers, verify=str(cloud.ca_file), timeout=30)


STATIC = {"location": "eastus", "sku": {"name": "Standard"}, "properties": {"publicIPAllocationMethod": "Static"}}
ADDRESS = "/resourceGroups/g/providers/Microsoft.Network/publicIPAddresses/a"


# ---------------------------------------------------------------- resource groups


def test_a_resource_group_is_made_once_and_found_in_any_case(cloud: AzureCloud, groups) -> None:
    made = groups.create_or_update("My-Group", {"location": "East US", "tags": {"a": "b"}})
    assert (made.name, made.location, made.tags) == ("My-Group", "eastus", {"a": "b"})
    assert groups.get("my-group").id == f"/subscriptions/{SUBSCRIPTION}/resourceGroups/My-Group"
    assert groups.check_existence("MY-GROUP") and not groups.check_existence("another")
    assert [g.name for g in groups.list(filter="tagName eq 'a' and tagValue eq 'b'")] == ["My-Group"]
    assert list(groups.list(filter="tagName eq 'a' and tagValue eq 'c'")) == []
    assert cloud.leftovers() == ["resourceGroups/My-Group"]


def test_a_resource_group_takes_all_along_that_is_in_it(cloud: AzureCloud, groups, network) -> None:
    network.public_ip_addresses.begin_create_or_update("g", "a", STATIC).result()
    cloud.world.operation_seconds = 0.2
    end = groups.begin_delete("g")
    assert groups.get("g").properties.provisioning_state == "Deleting"
    with pytest.raises(ResourceExistsError) as refused:
        network.public_ip_addresses.begin_create_or_update("g", "b", STATIC)
    assert code(refused) == "ResourceGroupBeingDeleted"
    with pytest.raises(ResourceExistsError) as refused:
        groups.create_or_update("g", {"location": "eastus"})
    assert code(refused) == "ResourceGroupBeingDeleted"
    end.result()
    assert cloud.leftovers() == []


def test_what_is_locked_is_not_deleted(cloud: AzureCloud, groups, network) -> None:
    locks = cloud.client(ManagementLockClient).management_locks
    locks.create_or_update_at_resource_group_level("g", "keep", {"properties": {"level": "CanNotDelete"}})
    with pytest.raises(ResourceExistsError) as refused:
        groups.begin_delete("g")
    assert code(refused) == "ScopeLocked"
    network.public_ip_addresses.begin_create_or_update("g", "a", STATIC).result()
    with pytest.raises(ResourceExistsError) as refused:
        network.public_ip_addresses.begin_delete("g", "a")
    assert code(refused) == "ScopeLocked"
    locks.delete_at_resource_group_level("g", "keep")
    groups.begin_delete("g").result()
    assert cloud.leftovers() == []


# ---------------------------------------------------------------- any resource


def test_a_resource_is_made_changed_and_removed(cloud: AzureCloud, network) -> None:
    begun = network.public_ip_addresses.begin_create_or_update("g", "A", {**STATIC, "tags": {"one": "1"}})
    made = begun.result()
    assert made.provisioning_state == "Succeeded" and made.etag
    assert network.public_ip_addresses.update_tags("g", "a", {"tags": {"two": "2"}}).tags == {"two": "2"}
    assert network.public_ip_addresses.get("G", "a").name == "A"
    assert [a.name for a in network.public_ip_addresses.list_all()] == ["A"]
    network.public_ip_addresses.begin_delete("g", "a").result()
    with pytest.raises(ResourceNotFoundError) as missing:
        network.public_ip_addresses.get("g", "a")
    assert code(missing) == "ResourceNotFound"
    network.public_ip_addresses.begin_delete("g", "a").result()  # what is gone already is no error


def test_a_list_comes_in_pages_and_hears_late_of_what_is_new(cloud: AzureCloud, network) -> None:
    clock = [0.0]
    cloud.world.clock = lambda: clock[0]
    cloud.world.page_size, cloud.world.visible_after = 2, 5.0
    for name in "abcde":
        network.public_ip_addresses.begin_create_or_update("g", name, STATIC).result()
    assert list(network.public_ip_addresses.list("g")) == []
    assert network.public_ip_addresses.get("g", "a").name == "a"
    clock[0] = 5.0
    begin = len(cloud.world.calls)
    assert [a.name for a in network.public_ip_addresses.list("g")] == list("abcde")
    assert cloud.world.operations(begin) == ["publicIPAddresses.list"] * 3
    assert cloud.world.actions(begin) == ["Microsoft.Network/publicIPAddresses/read"] * 3


def test_a_resource_of_no_group_is_refused_and_so_is_one_of_no_region(cloud: AzureCloud, groups) -> None:
    network = cloud.client(NetworkManagementClient)
    with pytest.raises(ResourceNotFoundError) as refused:
        network.public_ip_addresses.begin_create_or_update("g", "a", STATIC)
    assert code(refused) == "ResourceGroupNotFound"
    groups.create_or_update("g", {"location": "eastus"})
    with pytest.raises(HttpResponseError) as refused:
        network.public_ip_addresses.begin_create_or_update("g", "a", {"tags": {}})
    assert code(refused) == "LocationRequired"
    with pytest.raises(HttpResponseError) as refused:
        network.public_ip_addresses.begin_create_or_update("g", "a", {"location": "atlantis"})
    assert code(refused) == "LocationNotAvailableForResourceType"
    with pytest.raises(ResourceNotFoundError) as refused:
        network.subnets.begin_create_or_update("g", "none", "s", {"properties": {"addressPrefix": "10.0.0.0/24"}})
    assert code(refused) == "ParentResourceNotFound"


def test_who_writes_over_another_is_stopped_by_the_etag(cloud: AzureCloud, network) -> None:
    version = {"Content-Type": "application/json"}
    url = f"{ADDRESS}?api-version=2026-03-01"
    first = ask(cloud, "PUT", url, STATIC, **{"If-None-Match": "*", **version})
    assert first.status_code == 201
    again = ask(cloud, "PUT", url, STATIC, **{"If-None-Match": "*"})
    assert (again.status_code, again.json()["error"]["code"]) == (412, "PreconditionFailed")
    etag = ask(cloud, "GET", url).json()["etag"]
    assert ask(cloud, "PUT", url, STATIC, **{"If-Match": etag}).status_code == 200
    assert ask(cloud, "PUT", url, STATIC, **{"If-Match": etag}).status_code == 412


# ---------------------------------------------------------------- operations


def test_an_operation_is_asked_for_until_it_is_done(cloud: AzureCloud, network) -> None:
    clock = [0.0]
    cloud.world.clock, cloud.world.operation_seconds, cloud.world.retry_after = (lambda: clock[0]), 10.0, 3
    begun = ask(cloud, "PUT", f"{ADDRESS}?api-version=2026-03-01", STATIC)
    assert (begun.status_code, begun.json()["properties"]["provisioningState"]) == (201, "Creating")
    assert begun.headers["Retry-After"] == "3" and begun.headers["x-ms-request-id"]
    where = begun.headers["Azure-AsyncOperation"].removeprefix(f"{cloud.url}/subscriptions/{SUBSCRIPTION}")
    assert ask(cloud, "GET", where).json()["status"] == "InProgress"
    clock[0] = 10.0
    assert ask(cloud, "GET", where).json()["status"] == "Succeeded"
    gone = ask(cloud, "DELETE", f"{ADDRESS}?api-version=2026-03-01")
    assert gone.status_code == 202
    where = gone.headers["Location"].removeprefix(f"{cloud.url}/subscriptions/{SUBSCRIPTION}")
    assert ask(cloud, "GET", where).status_code == 202
    clock[0] = 20.0
    assert ask(cloud, "GET", where).status_code == 204
    cloud.world.calls.clear()


def test_what_was_accepted_may_fail_later_and_stays_as_failed(cloud: AzureCloud, network) -> None:
    cloud.fault("publicIPAddresses.createOrUpdate", "operation", code="InternalError", message="it broke")
    with pytest.raises(HttpResponseError) as failed:
        network.public_ip_addresses.begin_create_or_update("g", "a", STATIC).result()
    assert code(failed) == "InternalError"
    assert network.public_ip_addresses.get("g", "a").provisioning_state == "Failed"


# ---------------------------------------------------------------- strictness


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"location": "eastus", "propertis": {}}, "has no such member"),
        ({"location": "eastus", "properties": {"publicIPAddressVersion": "IPv5"}}, "which is none of IPv4, IPv6"),
        ({"location": "eastus", "properties": {"idleTimeoutInMinutes": "4"}}, "is str and not int"),
        ({"location": "eastus", "properties": {"provisioningState": "Succeeded"}}, "is set by Azure alone"),
        ({"location": "eastus", "properties": {"dnsSettings": {"domainNameLabels": "x"}}}, "has no such member"),
        ({"location": "eastus", "zones": "1"}, "is str and not list"),
    ],
)
def test_a_body_that_microsofts_packages_do_not_know_is_refused_and_recorded(
    cloud: AzureCloud, network, body, why
) -> None:
    refused = ask(cloud, "PUT", f"{ADDRESS}?api-version=2026-03-01", body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "InvalidRequestContent")
    assert why in refused.text and why in cloud.world.violations.pop()
    assert not cloud.exists(ADDRESS.removeprefix("/"))


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", ADDRESS, "MissingApiVersionParameter"),
        ("GET", f"{ADDRESS}?api-version=2020-01-01", "InvalidApiVersionParameter"),
        ("GET", f"{ADDRESS}?api-version=2026-03-01&expand=x", "InvalidQueryParameter"),
        ("POST", f"{ADDRESS}?api-version=2026-03-01", "MethodNotAllowed"),
        ("GET", f"{ADDRESS}/more?api-version=2026-03-01", "InvalidResourceType"),
        ("PUT", f"{ADDRESS}?api-version=2026-03-01", "InvalidRequestContent"),
        ("GET", "/providers/Microsoft.Compute/locations/eastus/vmSizes?api-version=2026-04-01", "NotImplemented"),
    ],
)
def test_a_call_that_microsofts_packages_do_not_know_is_refused_and_recorded(
    cloud: AzureCloud, network, method: str, path: str, code: str
) -> None:
    assert ask(cloud, method, path).json()["error"]["code"] == code
    assert cloud.world.violations.pop()


def test_plain_http_gets_no_answer(cloud: AzureCloud) -> None:
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get(cloud.url.replace("https", "http"), timeout=10)
    assert cloud.client(SubscriptionClient).subscriptions.get(SUBSCRIPTION).state == "Enabled"


# ---------------------------------------------------------------- who calls


def test_nobody_is_let_in_without_a_token_that_is_for_azure_and_still_good(cloud: AzureCloud) -> None:
    url = f"{cloud.url}/subscriptions/{SUBSCRIPTION}?api-version=2022-12-01"

    def refusal(header: str) -> str:
        answer = requests.get(url, headers={"Authorization": header}, verify=str(cloud.ca_file), timeout=10)
        assert answer.status_code == 401 and answer.headers["WWW-Authenticate"]
        return answer.json()["error"]["code"]

    vault = cloud.credential().get_token("https://vault.azure.net/.default").token
    assert refusal("Bearer nonsense") == "InvalidAuthenticationToken"
    assert refusal(f"Bearer {vault}") == "InvalidAuthenticationTokenAudience"
    good = cloud.credential().get_token(f"{cloud.url}/.default").token
    cloud.world.lapsed = True
    assert refusal(f"Bearer {good}") == "ExpiredAuthenticationToken"
    with pytest.raises(ClientAuthenticationError):
        cloud.credential().get_token(f"{cloud.url}/.default")


def test_a_wrong_secret_opens_nothing(cloud: AzureCloud) -> None:
    cloud.admin.secrets = {"another"}
    credential = cloud.credential()
    cloud.admin.secrets = {"this"}
    with pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
        credential.get_token(f"{cloud.url}/.default")


def test_the_environment_alone_is_enough_for_credentials(cloud: AzureCloud) -> None:
    from azure.identity import DefaultAzureCredential

    with cloud.credentials():
        credential = DefaultAzureCredential(disable_instance_discovery=True)
        assert credential.get_token(f"{cloud.url}/.default").token


def test_what_a_role_lacks_is_refused_by_its_action_and_scope(cloud: AzureCloud, network) -> None:
    cloud.world.denied.add("Microsoft.Network/publicIPAddresses/write")
    with pytest.raises(HttpResponseError) as refused:
        network.public_ip_addresses.begin_create_or_update("g", "a", STATIC)
    assert code(refused) == "AuthorizationFailed"
    assert "'Microsoft.Network/publicIPAddresses/write' over scope '/subscriptions/" in str(refused.value)
    assert cloud.world.actions_by("admin")[-1] == "Microsoft.Network/publicIPAddresses/write"


# ---------------------------------------------------------------- what goes wrong


def test_too_many_calls_are_told_to_wait_in_the_word_that_quotas_have_too(cloud: AzureCloud, network) -> None:
    cloud.world.limit("publicIPAddresses.list", 1, 0.5)
    list(network.public_ip_addresses.list("g"))
    with pytest.raises(HttpResponseError) as refused:
        list(network.public_ip_addresses.list("g"))
    assert refused.value.status_code == 429 and code(refused) == "OperationNotAllowed"
    assert refused.value.response is not None and refused.value.response.headers["Retry-After"] == "2"


def test_an_answer_may_be_lost_though_the_call_was_carried_out(cloud: AzureCloud, network) -> None:
    cloud.fault("publicIPAddresses.createOrUpdate", "lost", status=503, code="ServiceUnavailable")
    with pytest.raises(HttpResponseError):
        network.public_ip_addresses.begin_create_or_update("g", "a", STATIC)
    cloud.fault("publicIPAddresses.createOrUpdate", "reset")
    with pytest.raises(Exception, match=r"aborted|reset|closed"):
        network.public_ip_addresses.begin_create_or_update("g", "b", STATIC)
    assert [a.name for a in network.public_ip_addresses.list("g")] == ["a", "b"]


def test_a_provider_that_is_not_registered_is_told_by_name(cloud: AzureCloud, network) -> None:
    cloud.world.unregistered.add("Microsoft.Network")
    with pytest.raises(ResourceExistsError) as refused:
        network.public_ip_addresses.begin_create_or_update("g", "a", STATIC)
    assert code(refused) == "MissingSubscriptionRegistration"
    providers = cloud.client(ResourceManagementClient).providers
    assert providers.get("Microsoft.Network").registration_state == "NotRegistered"
    assert providers.register("Microsoft.Network").registration_state == "Registered"
    network.public_ip_addresses.begin_create_or_update("g", "a", STATIC).result()


def test_a_disabled_subscription_is_for_reading_only(cloud: AzureCloud, groups) -> None:
    cloud.world.subscription_state = "Disabled"
    with pytest.raises(ResourceExistsError) as refused:
        groups.create_or_update("g", {"location": "eastus"})
    assert code(refused) == "ReadOnlyDisabledSubscription"
    assert list(groups.list()) == []
