"""Reserved capacity is used first, never beyond what is free of it, and left before it ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.base import PoolRequest

from clusterctl.core.errors import NoCapacity
from clusterctl.core.model import Drain, Instance
from tests.cloud.gcp.cloud import GcpCloud
from tests.cloud.gcp.store import Resource
from tests.cloud.gcp.world import PROJECT
from tests.gcp.stage import Stage, pool

NAME, ZONE, TYPE = "mine", "us-central1-b", "n2-standard-4"
HOUR = 3600.0
LAUNCHES = ("compute.instances.insert", "compute.instances.bulkInsert")


@pytest.fixture
def stage(cloud: GcpCloud, tmp_path: Path) -> Iterator[Stage]:
    place = Stage(tmp_path, cloud, [only()])
    yield place
    place.close()


def only(name: str = NAME, **spec: Any) -> PoolRequest:
    return PoolRequest("cpu", {"reservation": name, "orphan_timeout": 900.0, "market": ["on-demand"], **spec})


def at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat()


def reserve(cloud: GcpCloud, count: int, name: str = NAME, machine: str = TYPE, **more: Any) -> Resource:
    key = f"projects/{PROJECT}/zones/{ZONE}/reservations/{name}"
    specific = {
        "count": str(count), "inUseCount": "0", "assuredCount": str(count), "instanceProperties": {"machineType": machine}
    }  # fmt: skip
    body = {"specificReservation": specific, "specificReservationRequired": True, "status": "READY", **more}
    return cloud.compute.store.add(key, "reservation", body)


def promise(cloud: GcpCloud, name: str = NAME, **window: str) -> Resource:
    key = f"projects/{PROJECT}/zones/{ZONE}/futureReservations/{name}"
    sku = {"totalCount": "2", "instanceProperties": {"machineType": TYPE}}
    state = {"procurementStatus": "APPROVED"}
    body = {"specificSkuProperties": sku, "timeWindow": window, "status": state}
    return cloud.compute.store.add(key, "futureReservation", body)


def launches(cloud: GcpCloud) -> list[dict[str, Any]]:
    return [parameters["body"] for _, action, parameters in cloud.world.calls if action in LAUNCHES]


def test_what_is_reserved_comes_first_and_costs_nothing_more(stage: Stage, cloud: GcpCloud) -> None:
    reserve(cloud, 2)
    first, *others = stage.provider.offers(pool(reservation=NAME))
    assert (first.market, first.zone, first.price, first.rank) == ("reserved", ZONE, 0.0, 0)
    assert first.price_source == f"reserved as {NAME}" and first.closed == "" and first.ends == 0
    assert others and all(offer.rank > 0 and offer.price > 0 for offer in others)
    assert [offer.market for offer in stage.provider.offers(only())] == ["reserved"], "nothing else without types"


def test_a_launch_goes_into_the_reservation_and_is_known_as_such(stage: Stage, cloud: GcpCloud) -> None:
    row = reserve(cloud, 2)
    cloud.world.capacity["*/*/on-demand"] = 0
    (made,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(made, Instance), made
    (body,) = launches(cloud)
    assert body["reservationAffinity"] == {
        "consumeReservationType": "SPECIFIC_RESERVATION",
        "key": "compute.googleapis.com/reservation-name",
        "values": [NAME],
    }
    (shown,) = stage.provider.list()[0].instances
    assert shown.market == made.market == "reserved" and row["specificReservation"]["inUseCount"] == "1"


def test_one_that_another_project_shares_is_named_with_it(stage: Stage, cloud: GcpCloud) -> None:
    reserve(cloud, 2)
    shared = only(f"projects/{PROJECT}/zones/{ZONE}/reservations/{NAME}")
    (made,) = stage.provider.create([stage.request("cpu-1", wanted=shared)])
    assert isinstance(made, Instance), made
    assert launches(cloud)[0]["reservationAffinity"]["values"] == [f"projects/{PROJECT}/reservations/{NAME}"]


def test_no_more_are_launched_than_are_free_and_the_rest_goes_to_the_next_offer(stage: Stage, cloud: GcpCloud) -> None:
    reserve(cloud, 3)
    of = stage.provider.offers(stage.pools[0])[0]
    made = stage.provider.create([stage.request(f"cpu-{n}", of) for n in range(1, 6)])
    assert [type(result) for result in made] == [Instance] * 3 + [NoCapacity] * 2, made
    assert [body["count"] for body in launches(cloud)] == ["3"]
    (offer,) = stage.open().offers(stage.pools[0])
    assert offer.closed == f"all 3 instances of capacity reservation {NAME} are in use"


def test_a_gang_is_launched_whole_into_a_reservation_or_not_at_all(stage: Stage, cloud: GcpCloud) -> None:
    reserve(cloud, 3)
    gang = only(one_zone=True)
    of = stage.provider.offers(gang)[0]
    made = stage.provider.create([stage.request(f"cpu-{n}", of, gang) for n in range(1, 6)])
    assert all(isinstance(result, NoCapacity) for result in made) and launches(cloud) == []


def test_what_stands_close_together_needs_no_policy_and_is_bound_to_its_reservation(
    stage: Stage, cloud: GcpCloud
) -> None:
    reserve(cloud, 2, deploymentType="DENSE")
    gang = only(one_zone=True)
    of = stage.provider.offers(gang)[0]
    made = stage.provider.create([stage.request(f"cpu-{n}", of, gang) for n in (1, 2)])
    assert all(isinstance(result, Instance) for result in made), made
    properties = launches(cloud)[0]["instanceProperties"]
    assert "resourcePolicies" not in properties
    assert properties["scheduling"]["provisioningModel"] == "RESERVATION_BOUND"
    assert {i.market for i in stage.provider.list()[0].instances} == {"reserved"}


def test_what_google_made_of_a_calendars_promise_is_bound_to_it_and_placed_close(stage: Stage, cloud: GcpCloud) -> None:
    row = reserve(cloud, 2)
    future = promise(cloud, "booked", startTime=at(time.time() - HOUR))
    future["reservationMode"] = "CALENDAR"
    future["status"]["autoCreatedReservations"] = [row["selfLink"]]
    gang = only(one_zone=True)
    of = stage.provider.offers(gang)[0]
    made = stage.provider.create([stage.request(f"cpu-{n}", of, gang) for n in (1, 2)])
    assert all(isinstance(result, Instance) for result in made), made
    properties = launches(cloud)[0]["instanceProperties"]
    assert properties["scheduling"]["provisioningModel"] == "RESERVATION_BOUND" and properties["resourcePolicies"]


def test_jobs_beyond_the_reservation_get_nodes_of_the_market(stage: Stage, cloud: GcpCloud) -> None:
    reserve(cloud, 2, machine="e2-standard-2")
    stage.pools = [pool(reservation=NAME, resources={"CPU": 1}, instances=["e2-standard-2"])]
    stage.provisioner.use_pools(stage.pools)
    for _ in range(3):
        stage.want(10)
    markets = sorted(i.market for i in stage.provider.list()[0].instances)
    assert markets[-2:] == ["reserved", "reserved"] and set(markets[:-2]) == {"on-demand"}


def test_what_is_promised_for_later_is_an_obstacle_that_says_when_it_begins(stage: Stage, cloud: GcpCloud) -> None:
    now = time.time()
    promise(cloud, startTime=at(now + 2 * HOUR), endTime=at(now + 9 * HOUR))
    assert stage.want(1) == [] and launches(cloud) == []
    (wait,) = stage.planned(1).waits
    assert f"future reservation {NAME} begins on 20" in wait.reason.text and wait.reason.code == "closed"


def test_a_promise_whose_reservation_has_another_name_is_found_by_that(stage: Stage, cloud: GcpCloud) -> None:
    promise(cloud, "booked", startTime=at(time.time() + HOUR))["reservationName"] = NAME
    (offer,) = stage.provider.offers(only())
    assert "begins on 20" in offer.closed and offer.instance_type == TYPE


def test_a_reservation_that_google_does_not_know_is_told_and_holds_nobody_else_up(stage: Stage) -> None:
    (offer,) = stage.provider.offers(only())
    assert NAME in offer.closed and "there is none" in offer.closed
    assert len(stage.provider.offers(pool(reservation=NAME))) > 1


def test_one_that_cannot_be_asked_for_by_name_says_what_to_do(stage: Stage, cloud: GcpCloud) -> None:
    reserve(cloud, 2, specificReservationRequired=False)
    (offer,) = stage.provider.offers(only())
    assert "--require-specific-reservation" in offer.closed


def test_a_reservation_that_vanishes_is_told(stage: Stage, cloud: GcpCloud) -> None:
    reserve(cloud, 2)
    of = stage.provider.offers(only())[0]
    cloud.compute.store.remove(f"projects/{PROJECT}/zones/{ZONE}/reservations/{NAME}")
    (answer,) = stage.provider.create([stage.request("cpu-1", of)])
    assert not isinstance(answer, Instance) and launches(cloud) == []


def test_quotas_are_not_asked_for_what_is_reserved(stage: Stage, cloud: GcpCloud) -> None:
    reserve(cloud, 2)
    cloud.world.quotas["N2_CPUS"] = 0.0
    (made,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(made, Instance), made


def test_nodes_of_a_reservation_with_an_end_take_no_new_work_before_it(stage: Stage, cloud: GcpCloud) -> None:
    reserve(cloud, 2, deleteAtTime=at(time.time() + 2 * HOUR))
    (offer,) = stage.provider.offers(only())
    stage.want(1)
    late = stage.planned(0, ready=True, at=offer.ends - 10)
    assert [(a.reason.code, a.deadline) for a in late.actions if isinstance(a, Drain)] == [("capacity_ends", None)]
