"""Gangs of one zone: close together, whole or not at all, with every network card that can do EFA."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.aws.efa import efa_interfaces
from moto.ec2.models.instance_types import INSTANCE_TYPES

from clusterctl.core.errors import NoCapacity, QuotaExceeded
from clusterctl.core.model import Instance
from tests.aws.stage import Stage, pool
from tests.cloud.aws.cloud import AwsCloud


@pytest.fixture
def stage(cloud: AwsCloud, tmp_path: Path) -> Iterator[Stage]:
    place = Stage(tmp_path, cloud)
    yield place
    place.close()


def layout(name: str) -> list[tuple[int, int, str]]:
    """(card, device, kind) of each interface, by what EC2 says of the type."""
    found = efa_interfaces(INSTANCE_TYPES[name]["NetworkInfo"], "subnet-1", ["sg-1"])
    return [(i["NetworkCardIndex"], i["DeviceIndex"], i["InterfaceType"]) for i in found]


@pytest.mark.parametrize(
    ("name", "first", "others"),
    [
        ("g6.8xlarge", "efa", 0),
        ("p4d.24xlarge", "efa", 3),
        ("p5.48xlarge", "efa", 31),
        ("p5en.48xlarge", "efa", 15),
        ("p6-b300.48xlarge", "interface", 16),  # its first card has no EFA
    ],
)
def test_every_card_with_efa_is_used_as_aws_lays_them_out(name: str, first: str, others: int) -> None:
    (own, *more) = layout(name)
    assert own == (0, 0, first)
    assert [device for _, device, _ in more] == [1] * others and {kind for *_, kind in more} <= {"efa-only"}
    assert len({card for card, *_ in layout(name)}) == others + 1


def test_a_type_with_fewer_efa_interfaces_than_cards_gets_no_more_than_it_may() -> None:
    assert Counter(kind for *_, kind in layout("i8ge.48xlarge")) == {"efa": 1}


def test_a_type_without_efa_gets_none_and_a_card_that_does_not_say_is_believed_to_have_it() -> None:
    assert layout("t3.micro") == []
    silent = {"EfaSupported": True, "EfaInfo": {"MaximumEfaInterfaces": 2}, "NetworkCards": [
        {"NetworkCardIndex": 1}, {"NetworkCardIndex": 0}]}  # fmt: skip
    found = efa_interfaces(silent, "subnet-1", ["sg-1"])
    assert [(i["NetworkCardIndex"], i["InterfaceType"]) for i in found] == [(0, "efa"), (1, "efa-only")]


def test_the_security_group_lets_efa_in_and_out_among_its_own(stage: Stage, cloud: AwsCloud) -> None:
    gang = pool("gang", instances=["p4d.24xlarge"], one_zone=True)
    stage.provider.create([stage.request("gang-1", wanted=gang)])
    groups = cloud.client().describe_security_groups(Filters=[{"Name": "tag:clusterctl-uid", "Values": [stage.uid]}])
    (group,) = groups["SecurityGroups"]
    for rules in (group["IpPermissions"], group["IpPermissionsEgress"]):
        own = [pair["GroupId"] for rule in rules if rule["IpProtocol"] == "-1" for pair in rule["UserIdGroupPairs"]]
        assert own == [group["GroupId"]]
    assert all(not rule.get("IpRanges") for rule in group["IpPermissions"]), "nothing else comes in"


def test_a_gang_that_does_not_fit_into_a_zone_is_not_launched_there(stage: Stage, cloud: AwsCloud) -> None:
    gang = pool("gang", instances=["p4d.24xlarge"], one_zone=True)
    offers = {offer.zone: offer for offer in stage.provider.offers(gang)}
    cloud.world.capacity["p4d.24xlarge/us-east-1a/on-demand"] = 3
    refused = stage.provider.create([stage.request(f"gang-{n}", offers["us-east-1a"], gang) for n in range(4)])
    assert all(isinstance(answer, NoCapacity) for answer in refused) and cloud.instances() == []
    made = stage.provider.create([stage.request(f"gang-{n}", offers["us-east-1b"], gang) for n in range(4, 8)])
    assert all(isinstance(answer, Instance) for answer in made)
    calls: list[dict[str, Any]] = [p for _, action, p in cloud.world.calls if action == "ec2:RunInstances"]
    assert [call["MinCount"] for call in calls] == [4, 4]
    assert calls[0]["Placement"]["GroupName"] != calls[1]["Placement"]["GroupName"], "a group is in one zone"
    assert cloud.world.actions().count("ec2:DescribeInstanceTypes") == 1


def test_nodes_that_are_no_gang_have_one_plain_card(stage: Stage, cloud: AwsCloud) -> None:
    stage.provider.create([stage.request("cpu-1", wanted=pool(instances=["p4d.24xlarge"]))])
    (call,) = [p for _, action, p in cloud.world.calls if action == "ec2:RunInstances"]
    assert "NetworkInterfaces" not in call and "Placement" not in call


def test_a_gang_beyond_what_is_left_of_a_quota_is_not_launched_in_part(stage: Stage, cloud: AwsCloud) -> None:
    gang = pool("gang", instances=["g6.8xlarge"], one_zone=True)
    of = stage.provider.offers(gang)[0]
    cloud.world.vcpu_quota["on-demand"] = 2 * 32
    answers = stage.provider.create([stage.request(f"gang-{n}", of, gang) for n in range(4)])
    assert all(isinstance(answer, QuotaExceeded) for answer in answers) and cloud.instances() == []
    assert cloud.world.actions().count("ec2:RunInstances") == 1, "a half of it is of no use"


def test_a_gang_beyond_a_quota_that_is_known_is_refused_without_a_call(stage: Stage, cloud: AwsCloud) -> None:
    gang = pool("gang", instances=["g6.8xlarge"], one_zone=True)
    cloud.world.quotas["L-DB2E81BA"] = 3 * 32.0
    of = stage.provider.offers(gang)[0]
    answers = stage.provider.create([stage.request(f"gang-{n}", of, gang) for n in range(4)])
    assert all(isinstance(a, QuotaExceeded) and "a gang of 4 g6.8xlarge has 128 vCPUs" in str(a) for a in answers)
    assert "ec2:RunInstances" not in cloud.world.actions()
