"""Gangs of one zone: close together, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterctl.core.errors import BadRequest, NoCapacity, QuotaExceeded
from clusterctl.core.model import Instance
from tests.cloud.gcp.cloud import GcpCloud
from tests.gcp.stage import Stage, pool

MANY = "compute.instances.bulkInsert"
GANG = pool("gang", instances=["n2-standard-4"], one_zone=True)


@pytest.fixture
def stage(cloud: GcpCloud, tmp_path: Path) -> Iterator[Stage]:
    place = Stage(tmp_path, cloud)
    yield place
    place.close()


def bodies(cloud: GcpCloud) -> list[dict[str, Any]]:
    return [parameters["body"] for _, action, parameters in cloud.world.calls if action == MANY]


def test_a_gang_is_launched_close_together_whole_or_not_at_all(stage: Stage, cloud: GcpCloud) -> None:
    of = stage.provider.offers(GANG)[0]
    made = stage.provider.create([stage.request(f"gang-{n}", of, GANG) for n in range(4)])
    assert all(isinstance(result, Instance) for result in made), made
    (body,) = bodies(cloud)
    assert (body["count"], body["minCount"]) == ("4", "4")
    (policy,) = body["instanceProperties"]["resourcePolicies"]
    assert f"gang-{of.zone}" in policy
    assert body["instanceProperties"]["scheduling"]["onHostMaintenance"] == "TERMINATE", "who stands close stays there"


def test_a_gang_that_does_not_fit_into_a_zone_is_not_launched_there(stage: Stage, cloud: GcpCloud) -> None:
    offers = {offer.zone: offer for offer in stage.provider.offers(GANG)}
    first, second = sorted(offers)[:2]
    cloud.world.capacity[f"n2-standard-4/{first}/on-demand"] = 3
    refused = stage.provider.create([stage.request(f"gang-{n}", offers[first], GANG) for n in range(4)])
    assert all(isinstance(answer, NoCapacity) for answer in refused) and cloud.instances() == []
    assert "it names zones that have some" in str(refused[0]) and second in str(refused[0])
    made = stage.provider.create([stage.request(f"gang-{n}", offers[second], GANG) for n in range(4, 8)])
    assert all(isinstance(answer, Instance) for answer in made)
    one, other = (body["instanceProperties"]["resourcePolicies"][0] for body in bodies(cloud))
    assert one != other, "a policy is for one zone"


def test_types_that_cannot_be_placed_are_launched_in_one_zone_all_the_same(stage: Stage, cloud: GcpCloud) -> None:
    gang = pool("gang", instances=["e2-standard-2"], one_zone=True)
    of = stage.provider.offers(gang)[0]
    made = stage.provider.create([stage.request(f"gang-{n}", of, gang) for n in range(2)])
    assert all(isinstance(result, Instance) for result in made), made
    assert "resourcePolicies" not in bodies(cloud)[0]["instanceProperties"]


def test_nodes_that_are_no_gang_have_no_policy(stage: Stage, cloud: GcpCloud) -> None:
    plain = pool(instances=["n2-standard-4"])
    of = stage.provider.offers(plain)[0]
    stage.provider.create([stage.request(f"cpu-{n}", of, plain) for n in range(2)])
    assert "resourcePolicies" not in bodies(cloud)[0]["instanceProperties"]


def test_a_gang_beyond_what_is_left_of_a_quota_is_not_launched_in_part(stage: Stage, cloud: GcpCloud) -> None:
    cloud.world.quotas["N2_CPUS"] = 16.0
    of = stage.provider.offers(GANG)[0]
    first = stage.provider.create([stage.request("gang-9", of, GANG)])
    assert isinstance(first[0], Instance)
    answers = stage.provider.create([stage.request(f"gang-{n}", of, GANG) for n in range(4)])
    assert all(isinstance(answer, QuotaExceeded) for answer in answers) and len(cloud.instances()) == 1
    assert len(bodies(cloud)) == 1, "a half of it is of no use"


def test_a_gang_beyond_a_quota_that_is_known_is_refused_without_a_call(stage: Stage, cloud: GcpCloud) -> None:
    cloud.world.quotas["N2_CPUS"] = 12.0
    of = stage.provider.offers(GANG)[0]
    answers = stage.provider.create([stage.request(f"gang-{n}", of, GANG) for n in range(4)])
    assert all(isinstance(a, QuotaExceeded) and "a gang of 4 n2-standard-4 has 16 vCPUs" in str(a) for a in answers)
    assert bodies(cloud) == []


def test_a_gang_of_flex_start_is_refused_with_what_to_do(stage: Stage, cloud: GcpCloud) -> None:
    cloud.world.quotas |= {"GPUS_ALL_REGIONS": 8.0, "PREEMPTIBLE_NVIDIA_L4_GPUS": 8.0}
    gang = pool("gang", instances=["g2-standard-4"], one_zone=True, market=["flex-start"])
    of = stage.provider.offers(gang)[0]
    answers = stage.provider.create([stage.request(f"gang-{n}", of, gang) for n in range(2)])
    assert all(isinstance(a, BadRequest) and "one by one" in str(a) for a in answers) and cloud.instances() == []
