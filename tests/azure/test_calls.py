"""How Azure is called: what is repeated and what is not, what is waited for, and where a token goes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from clusterctl_providers.azure.calls import Answer, Calls, last_part

from clusterctl.core.errors import AuthFailed, BadRequest, NoCapacity, Throttled, UnknownOutcome
from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.world import REGION, SUBSCRIPTION

BODY = {"location": REGION, "sku": {"name": "Standard"}, "properties": {"publicIPAllocationMethod": "Static"}}


@pytest.fixture
def cloud() -> Iterator[AzureCloud]:
    with AzureCloud() as cloud, cloud.credentials():
        yield cloud


class Paused:
    """Time passes in the stand-in when somebody waits, and at no other time."""

    def __init__(self, cloud: AzureCloud) -> None:
        self.now, self.pauses = 0.0, list[float]()
        cloud.world.clock = lambda: self.now

    def __call__(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def pause(cloud: AzureCloud) -> Paused:
    return Paused(cloud)


@pytest.fixture
def calls(cloud: AzureCloud, pause: Paused) -> Iterator[Calls]:
    settings = {"region": REGION, "endpoint_url": cloud.url, "calls_per_second": 500.0}
    calls = Calls(settings, pause)
    calls.run("PUT", calls.path(group="g"), "making a group", {"location": REGION})
    yield calls
    calls.close()


def address(calls: Calls, name: str = "a") -> str:
    return calls.path("Microsoft.Network", "publicIPAddresses", name, group="g")


def test_a_change_is_waited_for_and_answers_what_there_is_then(cloud: AzureCloud, calls: Calls, pause: Paused) -> None:
    cloud.world.operation_seconds = 3.0
    answer = calls.change("PUT", address(calls), "making an address", BODY)
    assert answer.operation and not calls.is_done(answer, "making an address")
    made = calls.wait(answer, "making an address")
    assert made["properties"]["provisioningState"] == "Succeeded" and last_part(made["id"]) == "a"
    assert calls.is_done(answer, "making an address") and pause.now >= 3.0
    assert calls.run("DELETE", address(calls), "removing it") == {}
    with pytest.raises(BadRequest):
        calls.get(address(calls), "looking")


def test_a_change_is_asked_for_as_often_as_azure_says(cloud: AzureCloud, calls: Calls, pause: Paused) -> None:
    cloud.world.operation_seconds, cloud.world.retry_after = 20.0, 7
    calls.run("PUT", address(calls), "making an address", BODY)
    assert pause.pauses == [7.0, 7.0, 7.0]


def test_a_change_that_comes_to_nothing_raises_its_own_error(cloud: AzureCloud, calls: Calls) -> None:
    cloud.fault("publicIPAddresses.createOrUpdate", "operation", code="AllocationFailed", message="There is none.")
    with pytest.raises(NoCapacity, match="making an address: Azure has no capacity there"):
        calls.run("PUT", address(calls), "making an address", BODY)


def test_a_question_is_repeated_and_a_change_is_made_once(cloud: AzureCloud, calls: Calls) -> None:
    calls.run("PUT", address(calls), "making an address", BODY)
    since = len(cloud.world.calls)
    cloud.fault("publicIPAddresses.get", code="TooManyRequests", status=429, times=2)
    assert calls.get(address(calls), "looking")["name"] == "a"
    assert cloud.world.operations(since).count("publicIPAddresses.get") == 3
    since = len(cloud.world.calls)
    cloud.fault("publicIPAddresses.createOrUpdate", code="TooManyRequests", status=429, times=9)
    with pytest.raises(Throttled):
        calls.change("PUT", address(calls), "making an address", BODY)
    assert cloud.world.operations(since).count("publicIPAddresses.createOrUpdate") == 1


def test_a_list_is_read_to_its_end_or_raises(cloud: AzureCloud, calls: Calls) -> None:
    for n in range(5):
        calls.run("PUT", address(calls, f"a{n}"), "making an address", BODY)
    cloud.world.page_size = 2
    addresses = calls.path("Microsoft.Network", "publicIPAddresses", group="g")
    assert [row["name"] for row in calls.list(addresses, "listing")] == [f"a{n}" for n in range(5)]
    cloud.fault("publicIPAddresses.list", code="InternalServerError", status=500, times=None, match="skip")
    with pytest.raises(UnknownOutcome, match="listing"):
        calls.list(addresses, "listing")


@pytest.mark.parametrize("host", ["https://elsewhere.test", "http://127.0.0.1:1"])
def test_a_token_goes_to_azure_and_nowhere_else(calls: Calls, host: str) -> None:
    answer = Answer("PUT", address(calls), 201, {}, operation=f"{host}/operations/1?api-version=1&secret=2")
    with pytest.raises(UnknownOutcome, match="which is not at") as refused:
        calls.wait(answer, "making an address")
    assert "secret" not in str(refused.value)


def test_credentials_that_lapsed_are_read_again_with_the_next_call(
    cloud: AzureCloud, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.world.lapsed = True
    with pytest.raises(AuthFailed):
        calls.get(calls.path(group="g"), "looking")
    cloud.world.lapsed = False
    assert calls.get(calls.path(group="g"), "looking")["name"] == "g"


def test_who_names_no_subscription_and_no_region_is_told_where_to_write_them(
    cloud: AzureCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare: dict[str, Any] = {"endpoint_url": cloud.url}
    assert Calls(bare).subscription == SUBSCRIPTION, "the environment's"
    monkeypatch.delenv("AZURE_SUBSCRIPTION_ID")
    with pytest.raises(AuthFailed, match="az account set"):
        _ = Calls(bare).subscription
    with pytest.raises(BadRequest, match="region"):
        _ = Calls(bare).region
