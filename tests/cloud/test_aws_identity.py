"""The stand-in for AWS knows who calls, asks the policies, and forgets nothing that IAM and EC2 ask for."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.cloud.aws.cloud import REGION, AwsCloud, credentials
from tests.cloud.aws.identity import allows, session_of

AMI = "ami-0ubuntu2404amd0001"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
LAUNCH = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": "ec2:RunInstances",
            "Resource": [
                "arn:aws:ec2:*:*:instance/*",
                "arn:aws:ec2:*:*:volume/*",
                "arn:aws:ec2:*:*:network-interface/*",
            ],
            "Condition": {"StringLike": {"aws:RequestTag/owner": "me"}},
        },
        {
            "Effect": "Allow",
            "Action": "ec2:RunInstances",
            "Resource": ["arn:aws:ec2:*::image/*", "arn:aws:ec2:*:*:subnet/*", "arn:aws:ec2:*:*:security-group/*"],
        },
        {
            "Effect": "Allow",
            "Action": "ec2:CreateTags",
            "Resource": "*",
            "Condition": {"StringEquals": {"ec2:CreateAction": "RunInstances"}},
        },
        {
            "Effect": "Allow",
            "Action": "ec2:TerminateInstances",
            "Resource": "*",
            "Condition": {"StringEquals": {"aws:ResourceTag/owner": "me"}},
        },
        {"Effect": "Allow", "Action": ["ec2:Describe*", "sts:*"], "Resource": "*"},
    ],
}


@pytest.fixture
def cloud() -> Iterator[AwsCloud]:
    with credentials(), AwsCloud() as place:
        yield place


def client(cloud: AwsCloud, keys: dict[str, str], service: str = "ec2") -> Any:
    return boto3.client(
        service,
        region_name=REGION,
        endpoint_url=cloud.url,
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=keys.get("AWS_SESSION_TOKEN"),
    )


def launch(ec2: Any, owner: str = "me", **more: Any) -> str:
    kinds = ("instance", "volume", "network-interface")
    tags = [{"ResourceType": kind, "Tags": [{"Key": "owner", "Value": owner}]} for kind in kinds]
    made = ec2.run_instances(
        ImageId=AMI, InstanceType="t3.micro", MinCount=1, MaxCount=1, TagSpecifications=tags, **more
    )
    return str(made["Instances"][0]["InstanceId"])


def code_of(call: Any) -> str:
    with pytest.raises(ClientError) as error:
        call()
    return str(error.value.response["Error"]["Code"])


def make_role(cloud: AwsCloud, name: str, policy: dict[str, Any]) -> None:
    iam = cloud.client("iam")
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))
    iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=json.dumps(policy))
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)


def test_keys_that_nobody_has_and_wrong_signatures_are_refused(cloud: AwsCloud) -> None:
    keys = cloud.add_user("me")
    assert client(cloud, keys, "sts").get_caller_identity()["Arn"].endswith(":user/me")
    for wrong in ({"AWS_ACCESS_KEY_ID": "AKIANOBODY"}, {"AWS_SECRET_ACCESS_KEY": "other"}):
        assert code_of(client(cloud, {**keys, **wrong}).describe_vpcs) == "AuthFailure"
        assert code_of(client(cloud, {**keys, **wrong}, "iam").list_roles) == "InvalidClientTokenId"
    late = cloud.add_user("late", expires=time.time() - 1)
    assert code_of(client(cloud, late).describe_vpcs) == "RequestExpired"


def test_a_clock_ten_minutes_off_is_refused(cloud: AwsCloud) -> None:
    cloud.world.clock_offset = 600
    assert code_of(cloud.client().describe_vpcs) == "RequestExpired"
    cloud.world.clock_offset = -600
    assert code_of(cloud.client().describe_vpcs) == "AuthFailure"
    cloud.world.clock_offset = 200
    assert cloud.client().describe_vpcs()["Vpcs"]


def test_what_no_policy_allows_is_refused_by_action_resource_and_tags(cloud: AwsCloud) -> None:
    ec2 = client(cloud, cloud.add_user("me", LAUNCH))
    mine = launch(ec2)
    assert code_of(lambda: launch(ec2, "you")) == "UnauthorizedOperation"
    assert code_of(lambda: ec2.run_instances(ImageId=AMI, MinCount=1, MaxCount=1)) == "UnauthorizedOperation"
    yours = launch(cloud.client(), "you")
    assert code_of(lambda: ec2.terminate_instances(InstanceIds=[mine, yours])) == "UnauthorizedOperation"
    ec2.terminate_instances(InstanceIds=[mine])
    assert code_of(lambda: ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)) == "UnauthorizedOperation"
    assert [i.id for i in cloud.instances()] == [yours]
    assert cloud.world.actions_by("user/me").count("ec2:RunInstances") == 3


def test_a_role_is_passed_only_by_who_may_and_only_when_ec2_knows_it(cloud: AwsCloud) -> None:
    now = [0.0]
    cloud.world.clock, cloud.world.iam_delay = lambda: now[0], 5.0
    ec2 = client(cloud, cloud.add_user("me", LAUNCH))
    make_role(cloud, "worker", LAUNCH)
    profile = {"IamInstanceProfile": {"Name": "worker"}}
    assert code_of(lambda: launch(ec2, **profile)) == "UnauthorizedOperation"
    right = {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "arn:aws:iam::*:role/worker"}
    ec2 = client(cloud, cloud.add_user("her", {"Statement": [*LAUNCH["Statement"], right]}))
    now[0] = 4.9
    with pytest.raises(ClientError, match="Invalid IAM Instance Profile name"):
        launch(ec2, **profile)
    now[0] = 5.0
    launch(ec2, **profile)


def test_an_instances_role_has_keys_that_may_what_the_role_may(cloud: AwsCloud) -> None:
    make_role(cloud, "head", LAUNCH)
    launch(cloud.client(), "me", IamInstanceProfile={"Name": "head"})
    (instance,) = cloud.instances()
    facts = session_of(cloud.world, instance)
    assert facts["iam/security-credentials/"] == "head"
    said = json.loads(facts["iam/security-credentials/head"])
    keys = {"AWS_ACCESS_KEY_ID": said["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": said["SecretAccessKey"]}
    ec2 = client(cloud, {**keys, "AWS_SESSION_TOKEN": said["Token"]})
    launch(ec2)
    assert code_of(lambda: launch(ec2, "you")) == "UnauthorizedOperation"
    assert f":assumed-role/head/{instance.id}" in cloud.world.called_by[-1][0]
    assert code_of(client(cloud, keys).describe_vpcs) == "AuthFailure", "without the session's token"
    cloud.client("iam").delete_role_policy(RoleName="head", PolicyName="p")
    assert code_of(ec2.describe_vpcs) == "UnauthorizedOperation"


def test_roles_and_profiles_are_leftovers_and_go_in_iams_order(cloud: AwsCloud) -> None:
    make_role(cloud, "head", LAUNCH)
    assert cloud.leftovers() == ["head", "head"]
    iam = cloud.client("iam")
    assert code_of(lambda: iam.delete_role(RoleName="head")) == "DeleteConflict"
    assert code_of(lambda: iam.delete_instance_profile(InstanceProfileName="head")) == "DeleteConflict"
    iam.remove_role_from_instance_profile(InstanceProfileName="head", RoleName="head")
    iam.delete_instance_profile(InstanceProfileName="head")
    iam.delete_role_policy(RoleName="head", PolicyName="p")
    iam.delete_role(RoleName="head")
    assert cloud.leftovers() == []


def test_a_denial_outweighs_and_conditions_are_read_as_iam_does() -> None:
    deny = {"Effect": "Deny", "Action": "iam:*", "Resource": "*"}
    every = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    assert allows([{"Statement": every}], "ec2:RunInstances", "arn:x", {})
    assert not allows([{"Statement": [every, deny]}], "IAM:passrole", "arn:x", {})
    assert not allows([{"Statement": deny}], "ec2:RunInstances", "arn:x", {})
    tests: list[tuple[dict[str, Any], dict[str, str], bool]] = [
        ({"StringEquals": {"aws:RequestTag/a": ["x", "y"]}}, {"aws:requesttag/A": "y"}, True),
        ({"StringEquals": {"aws:RequestTag/a": "x"}}, {}, False),
        ({"StringEqualsIfExists": {"aws:RequestTag/a": "x"}}, {}, True),
        ({"StringNotEquals": {"ec2:Region": "us-east-1"}}, {"ec2:Region": "us-east-1"}, False),
        ({"Null": {"aws:RequestTag/a": "false"}}, {"aws:RequestTag/a": "x"}, True),
        ({"ForAllValues:StringEquals": {"aws:TagKeys": ["a", "b"]}}, {"aws:TagKeys": "a\nc"}, False),
        ({"ForAnyValue:StringLike": {"aws:TagKeys": "c*"}}, {"aws:TagKeys": "a\ncc"}, True),
        (
            {"StringLike": {"aws:RequestTag/a": "x*"}, "Bool": {"b": True}},
            {"aws:RequestTag/a": "xy", "b": "true"},
            True,
        ),
    ]
    for condition, context, expected in tests:
        assert allows([{"Statement": {**every, "Condition": condition}}], "a:b", "r", context) is expected, condition
