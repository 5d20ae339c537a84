"""Reserved capacity is used first, and never beyond what is free of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.base import PoolRequest

from clusterctl.core.errors import NoCapacity
from clusterctl.core.model import Instance
from tests.azure.parts import Parts
from tests.azure.stage import Stage, launches, pool
from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.world import REGION

NAME, ZONE, TYPE = "mine", "2", "Standard_D4s_v5"
KIND = "Microsoft.Compute/capacityReservationGroups"


@pytest.fixture
def stage(cloud: AzureCloud, tmp_path: Path) -> Iterator[Stage]:
    place = Stage(tmp_path, cloud, [only()])
    yield place
    place.close()


def only(name: str = NAME, **spec: Any) -> PoolRequest:
    return PoolRequest("cpu", {"reservation": name, "orphan_timeout": 900.0, "market": ["on-demand"], **spec})


def reserve(cloud: AzureCloud, count: int, name: str = NAME, size: str = TYPE, group: str = "corp") -> str:
    """In a resource group of the user's. Returns the id of the capacity reservation group."""
    parts = Parts(cloud)
    path = parts.make(f"{KIND}/{name}", {"zones": [ZONE]}, group)
    body = {"location": REGION, "sku": {"name": size, "capacity": count}, "zones": [ZONE]}
    parts.calls.run("PUT", f"{path}/capacityReservations/first", "reserving", body)
    return path


def test_what_is_reserved_comes_first_and_costs_nothing_more(stage: Stage, cloud: AzureCloud) -> None:
    reserve(cloud, 2)
    first, *others = stage.provider.offers(pool(reservation=NAME))
    assert (first.market, first.zone, first.price, first.rank) == ("reserved", ZONE, 0.0, 0)
    assert first.price_source == f"reserved as {NAME}" and first.closed == "" and first.ends == 0
    assert others and all(offer.rank > 0 and offer.price > 0 for offer in others)
    assert [offer.market for offer in stage.provider.offers(only())] == ["reserved"], "nothing else without types"


@pytest.mark.parametrize("by_id", [False, True])
def test_a_launch_goes_into_the_reservation_and_is_known_as_such(stage: Stage, cloud: AzureCloud, by_id: bool) -> None:
    path = reserve(cloud, 2)
    cloud.world.capacity["*/*/on-demand"] = 0
    wanted = only(path if by_id else NAME)
    (made,) = stage.provider.create([stage.request("cpu-1", wanted=wanted)])
    assert isinstance(made, Instance), made
    (body,) = launches(cloud)
    assert body["properties"]["capacityReservation"] == {"capacityReservationGroup": {"id": path}}
    assert body["zones"] == [ZONE] and body["properties"]["hardwareProfile"] == {"vmSize": TYPE}
    (shown,) = stage.provider.list()[0].instances
    assert shown.market == made.market == "reserved"


def test_no_more_are_launched_than_are_free_and_the_rest_goes_to_the_next_offer(
    stage: Stage, cloud: AzureCloud
) -> None:
    reserve(cloud, 3)
    of = stage.provider.offers(stage.pools[0])[0]
    made = stage.provider.create([stage.request(f"cpu-{n}", of) for n in range(1, 6)])
    assert [type(result) for result in made] == [Instance] * 3 + [NoCapacity] * 2, made
    assert len(launches(cloud)) == 3
    (offer,) = stage.open().offers(stage.pools[0])
    assert offer.closed == f"all 3 instances of capacity reservation {NAME} are in use"


def test_a_gang_is_launched_whole_into_a_reservation_or_not_at_all(stage: Stage, cloud: AzureCloud) -> None:
    reserve(cloud, 3)
    gang = only(one_zone=True)
    of = stage.provider.offers(gang)[0]
    made = stage.provider.create([stage.request(f"cpu-{n}", of, gang) for n in range(1, 6)])
    assert all(isinstance(result, NoCapacity) for result in made) and launches(cloud) == []


def test_a_reservation_that_azure_does_not_know_is_told_and_holds_nobody_else_up(stage: Stage) -> None:
    (offer,) = stage.provider.offers(only())
    assert NAME in offer.closed and "has none in eastus" in offer.closed
    assert len(stage.provider.offers(pool(reservation=NAME))) > 1


def test_a_name_that_two_groups_have_wants_the_id(stage: Stage, cloud: AzureCloud) -> None:
    first = reserve(cloud, 2)
    parts = Parts(cloud)
    parts.calls.ask("PUT", parts.calls.path(group="other"), "making", {"location": REGION})
    second = reserve(cloud, 2, group="other")
    (offer,) = stage.provider.offers(only())
    assert "there are 2 of that name" in offer.closed and first in offer.closed and second in offer.closed


def test_a_group_that_reserves_nothing_says_so(stage: Stage, cloud: AzureCloud) -> None:
    Parts(cloud).make(f"{KIND}/{NAME}", {"zones": [ZONE]})
    (offer,) = stage.provider.offers(only())
    assert "it reserves nothing" in offer.closed


def test_a_reservation_that_vanishes_is_told(stage: Stage, cloud: AzureCloud) -> None:
    path = reserve(cloud, 2)
    of = stage.provider.offers(only())[0]
    cloud.store.remove(path)
    (answer,) = stage.provider.create([stage.request("cpu-1", of)])
    assert not isinstance(answer, Instance) and launches(cloud) == []


def test_jobs_beyond_the_reservation_get_nodes_of_the_market(stage: Stage, cloud: AzureCloud) -> None:
    reserve(cloud, 2, size="Standard_D2s_v5")
    stage.pools = [pool(reservation=NAME, resources={"CPU": 1}, instances=["Standard_D2s_v5"])]
    stage.provisioner.use_pools(stage.pools)
    for _ in range(3):
        stage.want(10)
    markets = sorted(i.market for i in stage.provider.list()[0].instances)
    assert markets[-2:] == ["reserved", "reserved"] and set(markets[:-2]) == {"on-demand"}
