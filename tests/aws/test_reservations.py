"""Reserved capacity is used first, never beyond what is free of it, and left before it ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.base import PoolRequest

from clusterctl.core.errors import NoCapacity
from clusterctl.core.model import Drain, Instance, Launch
from tests.aws.stage import Stage, pool
from tests.cloud.aws import reservations as aws_reservations
from tests.cloud.aws.cloud import AwsCloud
from tests.cloud.aws.reservations import reserve

CR = "cr-0123456789abcdef0"
HOUR = 3600.0


@pytest.fixture
def stage(cloud: AwsCloud, tmp_path: Path) -> Iterator[Stage]:
    aws_reservations.forget()
    place = Stage(tmp_path, cloud, [only()])
    yield place
    place.close()
    aws_reservations.forget()


def only(**spec: Any) -> PoolRequest:
    return PoolRequest("cpu", {"reservation": CR, "orphan_timeout": 900.0, "market": ["on-demand"], **spec})


def launches(cloud: AwsCloud) -> list[dict[str, Any]]:
    return [parameters for _, action, parameters in cloud.world.calls if action == "ec2:RunInstances"]


def test_what_is_reserved_comes_first_and_costs_nothing_more(stage: Stage) -> None:
    reserve(CR, "t3.small", "us-east-1b", 2)
    first, *others = stage.provider.offers(pool(reservation=CR))
    assert (first.market, first.zone, first.price, first.rank) == ("reserved", "us-east-1b", 0.0, 0)
    assert first.price_source == f"reserved as {CR}" and first.closed == "" and first.ends == 0
    assert others and all(offer.rank > 0 and offer.price > 0 for offer in others)
    assert [offer.market for offer in stage.provider.offers(only())] == ["reserved"], "nothing else without types"


def test_a_launch_goes_into_the_reservation_and_is_known_as_such(stage: Stage, cloud: AwsCloud) -> None:
    reserve(CR, "t3.small", "us-east-1b", 2)
    cloud.world.capacity["*/*/on-demand"] = 0
    (made,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(made, Instance), made
    (call,) = launches(cloud)
    assert call["CapacityReservationSpecification"] == {"CapacityReservationTarget": {"CapacityReservationId": CR}}
    assert "InstanceMarketOptions" not in call
    (shown,) = stage.provider.list()[0].instances
    assert shown.market == made.market == "reserved"


def test_a_capacity_block_is_a_market_of_its_own_and_needs_no_placement_group(stage: Stage, cloud: AwsCloud) -> None:
    reserve(CR, "p4d.24xlarge", "us-east-1a", 2, block=True, ends=time.time() + 48 * HOUR)
    gang = only(one_zone=True)
    made = stage.provider.create([stage.request(f"cpu-{n}", wanted=gang) for n in (1, 2)])
    assert all(isinstance(result, Instance) for result in made), made
    (call,) = launches(cloud)
    assert call["InstanceMarketOptions"] == {"MarketType": "capacity-block"} and "Placement" not in call
    assert len(call["NetworkInterfaces"]) == 4
    assert {i.market for i in stage.provider.list()[0].instances} == {"capacity-block"}


def test_a_reservations_own_placement_group_is_used(stage: Stage, cloud: AwsCloud) -> None:
    row = reserve(CR, "t3.small", "us-east-1b", 2)
    row["PlacementGroupArn"] = "arn:aws:ec2:us-east-1:123456789012:placement-group/mine"
    cloud.client().create_placement_group(GroupName="mine", Strategy="cluster")
    stage.provider.create([stage.request("cpu-1", wanted=only(one_zone=True))])
    assert launches(cloud)[0]["Placement"] == {"GroupName": "mine"}


def test_no_more_are_launched_than_are_free_and_the_rest_goes_to_the_next_offer(stage: Stage, cloud: AwsCloud) -> None:
    reserve(CR, "t3.small", "us-east-1b", 3)
    of = stage.provider.offers(stage.pools[0])[0]
    made = stage.provider.create([stage.request(f"cpu-{n}", of) for n in range(1, 6)])
    assert [type(result) for result in made] == [Instance] * 3 + [NoCapacity] * 2
    assert [call["MaxCount"] for call in launches(cloud)] == [3]
    (offer,) = stage.open().offers(stage.pools[0])
    assert offer.closed == f"all 3 instances of capacity reservation {CR} are in use"


def test_a_gang_is_launched_whole_into_a_reservation_or_not_at_all(stage: Stage, cloud: AwsCloud) -> None:
    reserve(CR, "t3.small", "us-east-1b", 3)
    gang = only(one_zone=True)
    of = stage.provider.offers(gang)[0]
    made = stage.provider.create([stage.request(f"cpu-{n}", of, gang) for n in range(1, 6)])
    assert all(isinstance(result, NoCapacity) for result in made) and launches(cloud) == []


def test_jobs_beyond_the_reservation_get_nodes_of_the_market(stage: Stage, cloud: AwsCloud) -> None:
    reserve(CR, "t3.small", "us-east-1b", 2)
    stage.pools = [pool(reservation=CR, resources={"CPU": 1}, instances=["t3.small"])]
    stage.provisioner.use_pools(stage.pools)
    for _ in range(3):
        stage.want(10)
    markets = sorted(i.market for i in stage.provider.list()[0].instances)
    assert markets[-2:] == ["reserved", "reserved"] and set(markets[:-2]) == {"on-demand"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"starts": +2 * HOUR}, f"capacity block {CR} begins on 20"),
        ({"ends": +600.0}, f"capacity block {CR} ends on 20"),
        ({"starts": -9 * HOUR, "ends": -HOUR}, f"capacity block {CR} ended on 20"),
    ],
)
def test_outside_its_window_a_block_is_an_obstacle_with_a_sentence(
    stage: Stage, cloud: AwsCloud, change: dict[str, float], told: str
) -> None:
    reserve(CR, "t3.small", "us-east-1b", 2, block=True, **{k: time.time() + v for k, v in change.items()})
    outcomes = stage.want(1)
    assert outcomes == [] and launches(cloud) == []
    (wait,) = stage.planned(1).waits
    assert told in wait.reason.text and wait.reason.code == "closed"


def test_a_reservation_that_aws_does_not_know_is_told_and_holds_nobody_else_up(stage: Stage) -> None:
    (offer,) = stage.provider.offers(only())
    assert CR in offer.closed and "not found" in offer.closed
    assert len(stage.provider.offers(pool(reservation=CR))) > 1


def test_a_reservation_that_vanishes_is_told_with_the_type_it_had(stage: Stage, cloud: AwsCloud) -> None:
    reserve(CR, "t3.small", "us-east-1b", 2)
    of = stage.provider.offers(only())[0]
    aws_reservations.forget()
    (answer,) = stage.provider.create([stage.request("cpu-1", of)])
    assert not isinstance(answer, Instance) and launches(cloud) == []


def test_quotas_are_not_asked_for_what_is_reserved(stage: Stage, cloud: AwsCloud) -> None:
    reserve(CR, "t3.small", "us-east-1b", 2)
    cloud.world.quotas["L-1216C47A"] = 0.0
    (made,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(made, Instance), made


def test_a_block_ends_half_an_hour_early_and_its_nodes_are_drained_before(stage: Stage) -> None:
    ends = time.time() + 2 * HOUR
    reserve(CR, "t3.small", "us-east-1b", 2, block=True, ends=ends)
    (offer,) = stage.provider.offers(only())
    assert offer.ends == pytest.approx(ends - 1800, abs=1)
    stage.want(2)
    early, late = stage.planned(0, ready=True, at=offer.ends - 700), stage.planned(2, ready=True, at=offer.ends - 590)
    assert not [action for action in early.actions if isinstance(action, Drain)]
    drains = [action for action in late.actions if isinstance(action, Drain)]
    assert [(d.reason.code, d.deadline) for d in drains] == [("capacity_ends", offer.ends)]
    assert not [action for action in late.actions if isinstance(action, Launch)], "it would end before it began"
    assert stage.planned(0, ready=True, at=offer.ends - 605).wake_at == pytest.approx(offer.ends - 600, abs=1)


def test_nodes_of_an_ordinary_reservation_end_in_peace(stage: Stage) -> None:
    reserve(CR, "t3.small", "us-east-1b", 2, ends=time.time() + 2 * HOUR)
    (offer,) = stage.provider.offers(only())
    stage.want(1)
    late = stage.planned(0, ready=True, at=offer.ends - 10)
    assert [(a.reason.code, a.deadline) for a in late.actions if isinstance(a, Drain)] == [("capacity_ends", None)]
