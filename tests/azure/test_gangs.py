"""Gangs of one zone: close together, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterctl.core.errors import NoCapacity, NotYet, QuotaExceeded, UnknownOutcome
from clusterctl.core.model import Instance
from tests.azure.stage import DELETE, PUT, Stage, launches, pool, vms
from tests.cloud.azure.cloud import AzureCloud

TYPE = "Standard_D4s_v5"
GANG = pool("gang", instances=[TYPE], one_zone=True)
GROUP = "proximityPlacementGroups"


@pytest.fixture
def stage(cloud: AzureCloud, tmp_path: Path) -> Iterator[Stage]:
    place = Stage(tmp_path, cloud)
    yield place
    place.close()


def left(cloud: AzureCloud, kind: str) -> list[str]:
    return [path for path in cloud.leftovers() if f"/{kind}/" in path]


def places(cloud: AzureCloud) -> set[str]:
    return {body["properties"]["proximityPlacementGroup"]["id"] for body in launches(cloud)}


def launch(stage: Stage, of: Any, *numbers: int) -> list[Any]:
    return stage.provider.create([stage.request(f"gang-{n}", of, GANG) for n in numbers])


def test_a_gang_is_launched_close_together(stage: Stage, cloud: AzureCloud) -> None:
    of = stage.provider.offers(GANG)[0]
    made = launch(stage, of, 0, 1, 2, 3)
    assert all(isinstance(result, Instance) for result in made), made
    (place,) = places(cloud)
    group = cloud.resource(place)
    assert group["zones"] == [of.zone] and group["properties"]["intent"] == {"vmSizes": [TYPE]}
    assert group["tags"]["clusterctl-uid"] == stage.uid
    assert {body["zones"][0] for body in launches(cloud)} == {of.zone}
    made = launch(stage, of, 4)
    assert isinstance(made[0], Instance) and len(places(cloud)) == 1, "who comes later stands beside them"


def test_a_gang_that_does_not_fit_into_a_zone_leaves_nothing_there(stage: Stage, cloud: AzureCloud) -> None:
    offers = {offer.zone: offer for offer in stage.provider.offers(GANG) if offer.zone}
    first, second = sorted(offers)[:2]
    cloud.world.capacity[f"{TYPE}/{first}/on-demand"] = 3
    refused = launch(stage, offers[first], 0, 1, 2, 3)
    assert all(isinstance(answer, NoCapacity) and "AllocationRequest" in str(answer) for answer in refused), refused
    assert vms(cloud) == [] and left(cloud, "networkInterfaces") == left(cloud, "disks") == []
    assert left(cloud, GROUP) == [], "an empty one may be pinned to where there is no room"
    made = launch(stage, offers[second], 4, 5, 6, 7)
    assert all(isinstance(answer, Instance) for answer in made), made
    assert len(places(cloud)) == 2, "a group is for one zone"


def test_a_gang_with_infiniband_is_in_an_availability_set_which_is_in_no_zone(stage: Stage, cloud: AzureCloud) -> None:
    gang = pool("gang", instances=["Standard_ND96isr_H100_v5"], one_zone=True)
    of = stage.provider.offers(gang)[0]
    made = stage.provider.create([stage.request(f"gang-{n}", of, gang) for n in range(2)])
    assert all(isinstance(result, Instance) for result in made), made
    for body in launches(cloud):
        assert "zones" not in body
        together = cloud.resource(body["properties"]["availabilitySet"]["id"])
        assert together["sku"] == {"name": "Aligned"}
        assert (
            together["properties"]["proximityPlacementGroup"]["id"]
            == body["properties"]["proximityPlacementGroup"]["id"]
        )


def test_spot_machines_are_in_no_availability_set(stage: Stage, cloud: AzureCloud) -> None:
    gang = pool("gang", instances=["Standard_ND96isr_H100_v5"], one_zone=True, market=["spot"])
    of = stage.provider.offers(gang)[0]
    assert isinstance(stage.provider.create([stage.request("gang-1", of, gang)])[0], Instance)
    (body,) = launches(cloud)
    assert "availabilitySet" not in body["properties"] and body["zones"] == [of.zone]


def test_nodes_that_are_no_gang_are_in_no_group(stage: Stage, cloud: AzureCloud) -> None:
    plain = pool(instances=[TYPE])
    of = stage.provider.offers(plain)[0]
    stage.provider.create([stage.request(f"cpu-{n}", of, plain) for n in range(2)])
    assert all("proximityPlacementGroup" not in body["properties"] for body in launches(cloud))


def test_a_gang_beyond_what_is_left_of_a_quota_is_not_launched_in_part(stage: Stage, cloud: AzureCloud) -> None:
    of = stage.provider.offers(GANG)[0]
    first = launch(stage, of, 9)
    assert isinstance(first[0], Instance)
    cloud.world.quotas["cores"] = 16.0
    answers = launch(stage, of, 0, 1, 2, 3)
    assert all(isinstance(answer, QuotaExceeded) for answer in answers), answers
    assert [vm["name"] for vm in vms(cloud)] == [first[0].id]


def test_a_gang_of_which_one_fails_later_than_the_others_is_rolled_back(stage: Stage, cloud: AzureCloud) -> None:
    of = stage.provider.offers(GANG)[0]
    cloud.fault(PUT, "operation", code="OverconstrainedZonalAllocationRequest", match="gang-3-1")
    answers = launch(stage, of, 0, 1, 2, 3)
    assert all(isinstance(answer, NoCapacity) and "Overconstrained" in str(answer) for answer in answers), answers
    assert vms(cloud) == [] and cloud.world.operations().count(DELETE) == 4


def test_a_gang_of_which_one_answer_is_lost_for_good_is_completed_by_the_next_try(
    stage: Stage, cloud: AzureCloud
) -> None:
    of = stage.provider.offers(GANG)[0]
    fault = cloud.fault(PUT, "cut", times=None, match="gang-2-1")
    answers = launch(stage, of, 0, 1, 2, 3)
    assert all(isinstance(answer, UnknownOutcome) for answer in answers), answers
    cloud.world.faults.remove(fault)
    made = stage.open().create([stage.request(f"gang-{n}", of, GANG) for n in range(4)])
    assert all(isinstance(answer, Instance) for answer in made) and len(vms(cloud)) == 4


def test_a_gang_beyond_a_quota_that_is_known_is_refused_without_a_call(stage: Stage, cloud: AzureCloud) -> None:
    of = stage.provider.offers(GANG)[0]
    stage.provider._quotas._ask = lambda quota: 12.0
    answers = launch(stage, of, 0, 1, 2, 3)
    assert all(isinstance(a, QuotaExceeded) and f"a gang of 4 {TYPE} has 16 vCPUs" in str(a) for a in answers), answers
    assert launches(cloud) == []


def test_a_placement_group_that_somebody_deleted_is_made_again(stage: Stage, cloud: AzureCloud) -> None:
    of = stage.provider.offers(GANG)[0]
    (first,) = launch(stage, of, 1)
    stage.provider.terminate([first.id])
    (place,) = places(cloud)
    cloud.store.remove(place)
    message = f"Resource {place} was not found."
    cloud.fault(PUT, code="NotFound", message=message, status=404)
    request = stage.request("gang-2", of, GANG)
    (answer,) = stage.provider.create([request])
    assert isinstance(answer, NotYet) and "any more" in str(answer), answer
    (made,) = stage.provider.create([request])
    assert isinstance(made, Instance), made
    assert cloud.exists(place)
