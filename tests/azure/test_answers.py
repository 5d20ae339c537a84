"""Azure's own words for a refusal, over the wire: what the cluster makes of each, whether it comes at once or after the launch
was accepted. What each becomes, word by word, is in test_errors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterctl.core.errors import AuthFailed, BadRequest, NoCapacity, NotYet, ProviderError, QuotaExceeded, Throttled
from clusterctl.core.model import Instance
from tests.azure.stage import BOTH, DELETE, PUT, Stage, launches, pool, vms
from tests.cloud.azure.cloud import AzureCloud

FAMILY = "standardDSv5Family"


@pytest.fixture
def stage(cloud: AzureCloud, tmp_path: Path) -> Iterator[Stage]:
    place = Stage(tmp_path, cloud)
    yield place
    place.close()


def refused(stage: Stage) -> ProviderError:
    (answer,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(answer, ProviderError), answer
    assert vms(stage.cloud) == []
    return answer


@pytest.mark.parametrize("at_once", [True, False])
def test_without_spot_capacity_anywhere_on_demand_is_launched_without_a_pause(
    stage: Stage, cloud: AzureCloud, at_once: bool
) -> None:
    """SkuNotAvailable is the answer of the PUT, ZonalAllocationFailed comes after it."""
    cloud.world.refused_at_once = at_once
    cloud.world.capacity["*/*/spot"] = 0
    began, started = stage.now, time.monotonic()
    stage.provisioner.offers()
    while not vms(cloud, "Succeeded"):
        (outcome,) = stage.want(1)
        assert outcome.ok or outcome.code == "no_capacity", outcome
        assert ("SkuNotAvailable" if at_once else "AllocationFailed") in outcome.error or outcome.ok
        assert time.monotonic() - started < 120, "it never launches on-demand"
    (vm,) = vms(cloud)
    assert vm["properties"].get("priority") != "Spot" and stage.now == began, "no pause between them"
    tried = len(launches(cloud)) - 1
    assert tried >= 3 and cloud.world.operations().count(DELETE) == (0 if at_once else tried)


@pytest.mark.parametrize(
    "code", ["AllocationFailed", "OverconstrainedZonalAllocationRequest", "InternalExecutionError"]
)
def test_a_stockout_after_the_launch_was_accepted_is_told_in_azures_words_and_leaves_nothing(
    stage: Stage, cloud: AzureCloud, code: str
) -> None:
    cloud.fault(PUT, "operation", code=code, message="There is no room")
    error = refused(stage)
    assert isinstance(error, NoCapacity) and code in str(error) and "There is no room" in str(error)
    assert not [path for path in cloud.leftovers() if "/disks/" in path or "/networkInterfaces/" in path]


def test_a_quota_of_a_family_is_named_with_its_numbers(stage: Stage, cloud: AzureCloud) -> None:
    of = next(o for o in stage.provider.offers(pool()) if o.instance_type == "Standard_D2s_v5")
    assert isinstance(stage.provider.create([stage.request("cpu-1", of, pool())])[0], Instance)
    cloud.world.quotas[FAMILY] = 3.0
    (error,) = stage.provider.create([stage.request("cpu-2", of, pool())])
    assert isinstance(error, QuotaExceeded) and FAMILY.lower() in error.quota.lower().replace(" ", ""), error
    assert "limit is 3, 2 are in use, 2 more are needed" in str(error)
    assert len(launches(cloud)) == 2, "what is used of it is not looked up before"


def test_what_azure_limits_is_a_matter_of_time_and_nothing_is_lost(stage: Stage, cloud: AzureCloud) -> None:
    of = stage.provider.offers(stage.pools[0])[0]
    requests = [stage.request(f"cpu-{n}", of) for n in range(1, 6)]
    cloud.fault(PUT, code="TooManyRequests", status=429, times=4)
    deadline = time.monotonic() + 60
    answers = stage.provider.create(requests)
    while not all(isinstance(answer, Instance) for answer in answers):
        assert all(isinstance(a, Instance | Throttled) for a in answers) and time.monotonic() < deadline, answers
        answers = stage.provider.create(requests)
    assert len(vms(cloud)) == 5


def test_a_right_that_is_lacking_is_named_and_asked_for_once(stage: Stage, cloud: AzureCloud) -> None:
    of = stage.provider.offers(stage.pools[0])[0]
    assert isinstance(stage.provider.create([stage.request("cpu-1", of)])[0], Instance)
    cloud.world.denied.add("Microsoft.Compute/virtualMachines/write")
    before = len(cloud.world.calls)
    answers = stage.provider.create([stage.request(f"cpu-{n}", of) for n in range(2, 50)])
    assert all(isinstance(a, AuthFailed) and "Microsoft.Compute/virtualMachines/write" in str(a) for a in answers)
    assert cloud.world.operations(before).count(PUT) <= 16, "they are alike"


def test_a_machine_of_an_earlier_launch_that_is_still_being_deleted_is_waited_for(
    stage: Stage, cloud: AzureCloud
) -> None:
    request = stage.request("cpu-1")
    (made,) = stage.provider.create([request])
    assert isinstance(made, Instance)
    cloud.world.end_seconds = 3600.0
    stage.provider.terminate([made.id])
    for path in (stage.directory / "state" / "azure-launches").glob("*.json"):
        path.unlink()
    (answer,) = stage.open().create([request])
    assert isinstance(answer, NotYet | ProviderError) and not isinstance(answer, BadRequest), answer


def test_spot_and_on_demand_of_one_node_are_markets_of_their_own(stage: Stage, cloud: AzureCloud) -> None:
    offers = stage.provider.offers(stage.pools[0])
    assert {offer.market for offer in offers} == set(BOTH)
    cloud.world.capacity["*/*/spot"] = 0
    (answer,) = stage.provider.create([stage.request("cpu-1", offers[0])])
    assert isinstance(answer, NoCapacity)
