"""The stand-in for AWS does what EC2 does where moto alone does not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.cloud.aws.cloud import REGION, AwsCloud, credentials
from tests.cloud.aws.validation import check_json, check_query

AMI = "ami-0ubuntu2404amd0001"


@pytest.fixture
def cloud() -> Iterator[AwsCloud]:
    with credentials(), AwsCloud() as place:
        yield place


def run(cloud: AwsCloud, **more: Any) -> dict[str, Any]:
    return cloud.client().run_instances(
        **{"ImageId": AMI, "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1, **more}
    )


def code_of(error: Any) -> tuple[str, int]:
    response = error.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def test_the_same_client_token_is_one_launch_and_other_parameters_are_refused(cloud: AwsCloud) -> None:
    first, second = run(cloud, ClientToken="t"), run(cloud, ClientToken="t")
    assert first["Instances"][0]["InstanceId"] == second["Instances"][0]["InstanceId"]
    with pytest.raises(ClientError) as error:
        run(cloud, ClientToken="t", InstanceType="t3.small")
    assert code_of(error) == ("IdempotentParameterMismatch", 400)


def test_as_many_as_there_is_capacity_for_are_launched_and_they_have_indexes(cloud: AwsCloud) -> None:
    cloud.world.capacity["t3.micro/*/on-demand"] = 3
    answer = run(cloud, MaxCount=5)
    assert [i["AmiLaunchIndex"] for i in answer["Instances"]] == [0, 1, 2]


def test_no_capacity_is_http_500_as_in_ec2(cloud: AwsCloud) -> None:
    cloud.world.capacity["*/*/*"] = 0
    with pytest.raises(ClientError) as error:
        run(cloud)
    assert code_of(error) == ("InsufficientInstanceCapacity", 500)


def test_states_take_time(cloud: AwsCloud) -> None:
    cloud.world.boot_seconds = 0.2
    (made,) = run(cloud)["Instances"]

    def state() -> str:
        found = cloud.client().describe_instances(InstanceIds=[made["InstanceId"]])
        return found["Reservations"][0]["Instances"][0]["State"]["Name"]

    started = time.monotonic()
    assert made["State"]["Name"] == "pending"
    while state() == "pending":
        assert time.monotonic() < started + 10
    assert state() == "running" and time.monotonic() - started >= 0.2


def test_a_call_too_many_is_refused_with_503(cloud: AwsCloud) -> None:
    cloud.world.limit("DescribeVpcs", burst=1, per_second=0.01)
    cloud.world.check_rate("DescribeVpcs")
    with pytest.raises(Exception, match="Request limit exceeded"):
        cloud.world.check_rate("DescribeVpcs")


def test_unknown_ill_typed_and_missing_parameters_are_named() -> None:
    good = "Action=RunInstances&Version=2016-11-15&MinCount=1&MaxCount=2&TagSpecification.1.ResourceType=instance"
    parameters, faults = check_query("ec2", "RunInstances", good)
    assert faults == [] and parameters["TagSpecifications"] == [{"ResourceType": "instance"}]
    _, faults = check_query(
        "ec2", "RunInstances", good + "&Colour=red&EbsOptimized=maybe&MetadataOptions.HttpTokens=never"
    )
    assert len(faults) == 3 and "Colour is not known" in faults[0]
    _, faults = check_query("ec2", "RunInstances", "MinCount=one")
    assert any("is no integer" in fault for fault in faults) and any("MaxCount is missing" in fault for fault in faults)
    when = "InstanceType.1=t3.micro&StartTime="
    assert check_query("ec2", "DescribeSpotPriceHistory", when + "2026-01-31T12:00:00Z")[1] == []
    (fault,) = check_query("ec2", "DescribeSpotPriceHistory", when + "yesterday")[1]
    assert "is no timestamp" in fault
    assert check_json("ssm", "GetParameter", {"Name": "/x"}) == []
    assert check_json("ssm", "GetParameter", {"Name": 5, "Color": 1})


def test_a_request_that_the_model_does_not_allow_is_refused_on_the_wire_and_fails_whoever_uses_the_cloud() -> None:
    careless = Config(parameter_validation=False)
    with credentials(), pytest.raises(AssertionError, match="HttpTokens"), AwsCloud() as cloud:
        client = boto3.client("ec2", region_name=REGION, endpoint_url=cloud.url, config=careless)
        for wrong in ({"MinCount": "one"}, {"MetadataOptions": {"HttpTokens": "never"}}):
            with pytest.raises(ClientError) as error:
                client.run_instances(**{"ImageId": AMI, "MinCount": 1, "MaxCount": 1, **wrong})
            assert code_of(error) == ("UnknownParameter", 400)
        assert len(cloud.world.violations) == 2 and cloud.instances() == []
