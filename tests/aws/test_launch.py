"""What a launch asks of EC2, and how many calls it takes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.base import TAG_UID

from clusterctl.core.errors import BadRequest, NoCapacity, QuotaExceeded, UnknownOutcome
from clusterctl.core.model import Instance
from tests.aws.stage import BOTH, Stage, pool
from tests.cloud.aws import made_images as aws_made_images
from tests.cloud.aws.cloud import AwsCloud


@pytest.fixture
def stage(cloud: AwsCloud, tmp_path: Path) -> Iterator[Stage]:
    place = Stage(tmp_path, cloud)
    yield place
    place.close()


def launches(cloud: AwsCloud) -> list[dict[str, Any]]:
    return [parameters for _, action, parameters in cloud.world.calls if action == "ec2:RunInstances"]


def tags_of(call: dict[str, Any], kind: str) -> dict[str, str]:
    (given,) = [item for item in call["TagSpecifications"] if item["ResourceType"] == kind]
    return {tag["Key"]: tag["Value"] for tag in given["Tags"]}


def document(call: dict[str, Any]) -> dict[str, Any]:
    text = base64.b64decode(call["UserData"]).decode()
    return json.loads(text.rpartition("#clusterctl-document\n")[2])


def test_a_launch_has_all_that_keeps_a_machine_safe_and_ours(stage: Stage, cloud: AwsCloud) -> None:
    stage.provider.create([stage.request("cpu-1")])
    (call,) = launches(cloud)
    assert call["MetadataOptions"] == {
        "HttpEndpoint": "enabled",
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 1,
    }
    assert call["InstanceInitiatedShutdownBehavior"] == "terminate"
    (disk,) = call["BlockDeviceMappings"]
    assert (disk["Ebs"]["Encrypted"], disk["Ebs"]["VolumeType"], disk["Ebs"]["VolumeSize"]) == (True, "gp3", 30)
    assert call["InstanceMarketOptions"]["MarketType"] == "spot"
    for kind in ("instance", "volume", "network-interface", "spot-instances-request"):
        assert tags_of(call, kind)[TAG_UID] == stage.uid
    assert tags_of(call, "instance")["clusterctl-node"] == "cpu-1"
    assert "KeyName" not in call and "IamInstanceProfile" not in call  # workers need neither


def test_the_users_disk_image_tags_and_profile_are_taken(stage: Stage, cloud: AwsCloud) -> None:
    mine = pool(disk=200 * 1024**3, image="099720109477/ubuntu/images/*24.04-amd64*")
    iam = cloud.client("iam")
    iam.create_role(RoleName="reader", AssumeRolePolicyDocument="{}")
    iam.create_instance_profile(InstanceProfileName="reader")
    iam.add_role_to_instance_profile(InstanceProfileName="reader", RoleName="reader")
    provider = stage.open(tags={"team": "vision", TAG_UID: "not yours"}, worker_profile="reader")
    (made,) = provider.create([stage.request("cpu-1", wanted=mine)])
    assert isinstance(made, Instance), made
    (call,) = launches(cloud)
    assert call["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 200
    assert call["ImageId"] == "ami-0ubuntu2404amd0001", "the newest of two that match"
    assert tags_of(call, "instance")["team"] == "vision" and tags_of(call, "instance")[TAG_UID] == stage.uid
    assert call["IamInstanceProfile"] == {"Name": "reader"}


def make_image(cloud: AwsCloud, **disks: int) -> str:
    """One of the account's own with disks of so many GiB, by device name without /dev/."""
    (made,) = cloud.client().run_instances(ImageId="ami-0ubuntu2404amd0001", MinCount=1, MaxCount=1)["Instances"]
    image = str(cloud.client().create_image(InstanceId=made["InstanceId"], Name="mine")["ImageId"])
    cloud.client().terminate_instances(InstanceIds=[made["InstanceId"]])
    assert aws_made_images
    cloud.world.image_disks[image] = {f"/dev/{name}": size for name, size in disks.items()}
    return image


def test_the_disk_is_never_smaller_than_the_images_and_its_other_disks_go_with_the_machine(
    stage: Stage, cloud: AwsCloud
) -> None:
    own = pool(image=make_image(cloud, sda1=80, sdf=500))
    before = len(launches(cloud))
    (made,) = stage.provider.create([stage.request("cpu-1", wanted=own)])
    assert isinstance(made, Instance), made
    root, data = launches(cloud)[before]["BlockDeviceMappings"]
    assert (root["DeviceName"], root["Ebs"]["VolumeSize"]) == ("/dev/sda1", 80)
    assert data == {
        "DeviceName": "/dev/sdf",
        "Ebs": {"VolumeSize": 500, "Encrypted": True, "DeleteOnTermination": True},
    }


def test_a_disk_that_the_image_does_not_fit_on_is_refused_before_the_launch(stage: Stage, cloud: AwsCloud) -> None:
    small = pool(image=make_image(cloud, sda1=80), disk=50 * 1024**3)
    before = len(launches(cloud))
    (answer,) = stage.provider.create([stage.request("cpu-1", wanted=small)])
    assert (
        isinstance(answer, BadRequest) and "80 GiB" in str(answer) and "`disk` of the pool says 50 GiB" in str(answer)
    )
    assert launches(cloud)[before:] == []


@pytest.mark.parametrize(
    ("types", "image"),
    [
        (["t4g.micro"], "ami-0ubuntu2404arm0001"),
        (["g6.xlarge"], "ami-0deeplearning00001"),
        (["g5g.xlarge"], "ami-0deeplearningarm01"),
        (["t3.micro"], "ami-0ubuntu2404amd0001"),
    ],
)
def test_the_image_fits_the_architecture_and_the_gpu(
    stage: Stage, cloud: AwsCloud, types: list[str], image: str
) -> None:
    (made,) = stage.provider.create([stage.request("cpu-1", wanted=pool(instances=types))])
    assert isinstance(made, Instance), made
    assert launches(cloud)[0]["ImageId"] == image


def test_a_gpu_that_the_usual_image_has_no_driver_for_wants_an_image_of_its_own(stage: Stage, cloud: AwsCloud) -> None:
    of = next(o for o in stage.provider.offers(pool(instances=["p3dn.24xlarge"])))
    (answer,) = stage.provider.create([stage.request("cpu-1", of, pool(instances=["p3dn.24xlarge"]))])
    assert isinstance(answer, BadRequest) and "no driver for the V100" in str(answer) and launches(cloud) == []
    named = pool(instances=["p3dn.24xlarge"], image="ami-0deeplearning00001")
    (made,) = stage.provider.create([stage.request("cpu-1", of, named)])
    assert isinstance(made, Instance), made


def test_an_image_of_another_architecture_is_refused_before_the_launch(stage: Stage, cloud: AwsCloud) -> None:
    wrong = pool(instances=["t4g.micro"], image="ami-0ubuntu2404amd0001")
    (answer,) = stage.provider.create([stage.request("cpu-1", wanted=wrong)])
    assert isinstance(answer, BadRequest) and "x86_64" in str(answer) and launches(cloud) == []


def test_a_gang_of_one_zone_is_launched_close_together_all_or_nothing(stage: Stage, cloud: AwsCloud) -> None:
    gang = pool("gang", instances=["g6.8xlarge"], one_zone=True)
    of = stage.provider.offers(gang)[0]
    requests = [stage.request(f"gang-{n}", of, gang) for n in range(4)]
    assert all(isinstance(made, Instance) for made in stage.provider.create(requests))
    (call,) = launches(cloud)
    assert (call["MinCount"], call["MaxCount"]) == (4, 4)
    assert call["Placement"]["GroupName"] in cloud.world.placement_groups
    assert call["NetworkInterfaces"][0]["InterfaceType"] == "efa"


def test_two_hundred_nodes_take_four_launches_and_at_most_a_tenth_of_a_call_each(stage: Stage, cloud: AwsCloud) -> None:
    of = stage.provider.offers(stage.pools[0])[0]
    before = len(cloud.world.calls)
    made = stage.provider.create([stage.request(f"cpu-{n}", of) for n in range(1, 201)])
    assert len({result.id for result in made if isinstance(result, Instance)}) == 200
    assert len(launches(cloud)) == 4
    assert len(cloud.world.calls) - before <= 20
    names = [node[0] for call in launches(cloud) for node in document(call)["nodes"]]
    assert names == [f"cpu-{n}" for n in range(1, 201)]
    assert all(len(base64.b64decode(call["UserData"])) <= 16384 for call in launches(cloud))
    shown = {i.id: i.node_id for i in stage.provider.list()[0].instances}
    assert shown == {i.id: i.node_id for i in made if isinstance(i, Instance)}, "the list knows who is who"


def test_the_join_tokens_are_the_only_secrets_in_user_data(stage: Stage, cloud: AwsCloud) -> None:
    of = stage.provider.offers(stage.pools[0])[0]
    stage.provider.create([stage.request("cpu-1", of), stage.request("cpu-2", of)])
    (call,) = launches(cloud)
    boot = document(call)["boot"]
    assert "join_token" not in boot and boot["metadata"] == "aws" and boot["shutdown"] == "poweroff"
    assert [node[2] for node in document(call)["nodes"]] == ["s" * 64, "s" * 64]


def test_what_there_is_capacity_for_is_taken_and_the_rest_is_told(stage: Stage, cloud: AwsCloud) -> None:
    of = stage.provider.offers(stage.pools[0])[0]
    cloud.world.capacity[f"{of.instance_type}/{of.zone}/spot"] = 2
    made = stage.provider.create([stage.request(f"cpu-{n}", of) for n in range(1, 6)])
    assert [type(result) for result in made] == [Instance] * 2 + [NoCapacity] * 3
    assert len(launches(cloud)) == 1


def test_what_fits_under_a_quota_is_launched(stage: Stage, cloud: AwsCloud) -> None:
    of = stage.provider.offers(stage.pools[0])[0]
    cloud.world.vcpu_quota["spot"] = 8  # four nodes of two
    made = stage.provider.create([stage.request(f"cpu-{n}", of) for n in range(1, 9)])
    assert [type(result) for result in made] == [Instance] * 4 + [QuotaExceeded] * 4
    assert len(launches(cloud)) <= 5


def test_a_quota_of_nothing_is_told_by_name_without_a_launch(stage: Stage, cloud: AwsCloud) -> None:
    cloud.world.quotas["L-34B43A08"] = 0.0
    (answer,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(answer, QuotaExceeded) and "Spot Instance Requests" in answer.quota
    assert launches(cloud) == []


@pytest.mark.parametrize("effect", ["lost", "reset"])
def test_a_lost_answer_of_a_batch_is_asked_for_again_with_the_same_token(
    stage: Stage, cloud: AwsCloud, effect: str
) -> None:
    of = stage.provider.offers(stage.pools[0])[0]
    requests = [stage.request(f"cpu-{n}", of) for n in range(1, 11)]
    cloud.fault("RunInstances", effect)
    answers = stage.provider.create(requests)
    assert all(isinstance(answer, UnknownOutcome) for answer in answers)
    again = stage.open().create(requests[3:6])  # a new process, and some are not wanted any more
    assert [i.node_id for i in again if isinstance(i, Instance)] == ["cpu-4", "cpu-5", "cpu-6"]
    assert len(cloud.instances()) == 10, "nothing was launched twice"
    assert {i.node_id for i in stage.provider.list()[0].instances} == {f"cpu-{n}" for n in range(1, 11)}


def test_a_lost_book_does_not_launch_twice(stage: Stage, cloud: AwsCloud) -> None:
    of = stage.provider.offers(stage.pools[0])[0]
    requests = [stage.request(f"cpu-{n}", of) for n in range(1, 4)]
    first = stage.provider.create(requests)
    for path in (stage.directory / "state" / "aws-launches").glob("*.json"):
        path.unlink()
    again = stage.open().create(requests)
    assert [i.id for i in again if isinstance(i, Instance)] == [i.id for i in first if isinstance(i, Instance)]
    assert len(cloud.instances()) == 3


def test_no_launch_is_made_before_its_book_is_on_disk(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("clusterctl_runtime.files.private.os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        stage.provider.create([stage.request("cpu-1")])
    assert stage.cloud.instances() == []


def test_nodes_launched_together_are_one_call_per_kind(stage: Stage, cloud: AwsCloud) -> None:
    offers = stage.provider.offers(stage.pools[0])
    spot, demand = offers[0], next(o for o in offers if o.market == BOTH[1])
    stage.provider.create([stage.request("cpu-1", spot), stage.request("cpu-2", demand), stage.request("cpu-3", spot)])
    assert [call["MaxCount"] for call in launches(cloud)] == [2, 1]
    assert tags_of(launches(cloud)[0], "instance")["clusterctl-nodes"] == "cpu-:1@1,3@1"


def test_nodes_whose_papers_do_not_fit_into_one_launch_take_several(stage: Stage, cloud: AwsCloud) -> None:
    of = stage.provider.offers(stage.pools[0])[0]
    long = {"labels": {"note": "x" * 6000}}
    requests = [stage.request(f"cpu-{n}", of) for n in range(1, 51)]
    requests = [replace(request, bootstrap={**request.bootstrap, **long}) for request in requests]
    made = stage.provider.create(requests)
    assert all(isinstance(result, Instance) for result in made), made[0]
    assert len(launches(cloud)) == 2
    assert all(len(base64.b64decode(call["UserData"])) <= 16384 for call in launches(cloud))
