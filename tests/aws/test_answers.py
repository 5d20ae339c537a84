"""EC2's own words for a refusal, over the wire: each becomes the error that leads to the right behaviour, and a sentence
with what to do. The codes and texts are EC2's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from clusterctl_providers.aws.images import _checked
from clusterctl_providers.aws.quotas import quota_of
from clusterctl_providers.base import HeadMachine, PoolRequest
from clusterctl_providers.cloud.batches import batch_of

from clusterctl.core.errors import AuthFailed, BadRequest, NoCapacity, ProviderError, QuotaExceeded, Throttled
from clusterctl.core.model import Instance, Node, NodeState, launch_token
from clusterctl.provision.tags import ownership_tags
from clusterctl.spec.providers.aws import TAGS
from tests.aws.stage import Stage, pool
from tests.aws.test_permissions import key_of
from tests.cloud.aws.cloud import AwsCloud
from tests.support.cluster import wait_until

ME = "User: arn:aws:iam::123456789012:user/me is not authorized to perform:"
CIPHER = " Encoded authorization failure message: Zm9vYmFy"
DENIED = f"You are not authorized to perform this operation. {ME}"
ROLE = "arn:aws:iam::123456789012:role/reader"


@pytest.fixture
def stage(cloud: AwsCloud, tmp_path: Path) -> Iterator[Stage]:
    place = Stage(tmp_path, cloud)
    yield place
    place.close()


def refuse(stage: Stage, code: str, message: str, status: int = 400) -> ProviderError:
    stage.cloud.fault("RunInstances", code=code, message=message, status=status)
    (answer,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(answer, ProviderError), answer
    assert code in str(answer) and stage.cloud.instances() == []
    return answer


@pytest.mark.parametrize(
    ("code", "status", "message", "says"),
    [
        ("InsufficientInstanceCapacity", 500, "We currently do not have sufficient t3.micro capacity", "no capacity there"),
        ("InsufficientHostCapacity", 500, "There is not enough capacity", "no capacity there"),
        ("InsufficientReservedInstanceCapacity", 500, "Not enough available", "no capacity there"),
        ("InsufficientVolumeCapacity", 500, "There is not enough capacity to fulfill your EBS volume request", "no capacity"),
        ("InsufficientFreeAddressesInSubnet", 400, "The specified subnet does not contain enough free", "has no free address"),
        ("UnfulfillableCapacity", 400, "Unable to fulfill capacity", "no capacity there"),
        ("SpotMaxPriceTooLow", 400, "Your Spot request price is lower than the minimum", "no capacity there"),
        ("ReservationCapacityExceeded", 400, "The requested reservation does not have sufficient", "no capacity there"),
        ("Unsupported", 400, "Your requested instance type is not supported in your zone", "does not offer that there"),
    ],
)  # fmt: skip
def test_what_aws_has_not_got_leads_to_the_next_offer(
    stage: Stage, code: str, status: int, message: str, says: str
) -> None:
    error = refuse(stage, code, message, status)
    assert isinstance(error, NoCapacity) and says in str(error)


@pytest.mark.parametrize(
    ("code", "quota", "service"),
    [
        ("VcpuLimitExceeded", "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests", "Amazon EC2"),
        ("MaxSpotInstanceCountExceeded", "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests", "Amazon EC2"),
        ("InstanceLimitExceeded", "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests", "Amazon EC2"),
        ("VolumeLimitExceeded", "Storage for General Purpose SSD (gp3) volumes, in TiB", "Amazon Elastic Block Store"),
        ("MaxIOPSLimitExceeded", "IOPS for General Purpose SSD (gp3) volumes", "Amazon Elastic Block Store"),
        ("NetworkInterfaceLimitExceeded", "Network interfaces per Region", "Amazon Virtual Private Cloud"),
        ("GadgetLimitExceeded", "GadgetLimitExceeded", "Amazon EC2"),
    ],
)  # fmt: skip
def test_a_quota_is_named_as_the_console_names_it(stage: Stage, code: str, quota: str, service: str) -> None:
    error = refuse(stage, code, "You have reached your limit")
    assert isinstance(error, QuotaExceeded) and error.quota == quota
    assert f"{quota!r} is used up" in str(error) and f"Service Quotas > {service} in" in str(error)


@pytest.mark.parametrize(
    ("instance_type", "market", "code", "name"),
    [
        ("p5.48xlarge", "spot", "L-C4BD4855", "All P5 Spot Instance Requests"),
        ("p4d.24xlarge", "spot", "L-7212CCBC", "All P4, P3 and P2 Spot Instance Requests"),
        ("p5.48xlarge", "on-demand", "L-417A185B", "Running On-Demand P instances"),
        ("g6.xlarge", "spot", "L-3819A6DF", "All G and VT Spot Instance Requests"),
        ("trn1.2xlarge", "spot", "L-6B0D517C", "All Trn Spot Instance Requests"),
        ("m6i.large", "on-demand", "L-1216C47A", "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances"),
    ],
)
def test_each_family_has_its_quota(instance_type: str, market: str, code: str, name: str) -> None:
    quota = quota_of(instance_type, market)
    assert (quota.code, quota.name) == (code, name)


@pytest.mark.parametrize(
    "code", ["RequestLimitExceeded", "Throttling", "ThrottlingException", "EC2ThrottledException", "SlowDown"]
)
def test_too_many_calls_are_waited_out_and_cost_nothing(stage: Stage, code: str) -> None:
    error = refuse(stage, code, "Request limit exceeded.", 503)
    assert isinstance(error, Throttled) and error.retry_after >= 0.5


@pytest.mark.parametrize(
    ("code", "message", "says"),
    [
        ("AuthFailure", "AWS was not able to validate the provided access credentials", "AWS does not accept the cred"),
        ("ExpiredToken", "The security token included in the request is expired", "the credentials have expired"),
        ("ExpiredTokenException", "The security token included in the request is expired", "credentials have expired"),
        ("RequestExpired", "Request has expired.", "expired"),
        ("InvalidClientTokenId", "The security token included in the request is invalid", "AWS does not accept the cred"),
        ("SignatureDoesNotMatch", "The request signature we calculated does not match", "does not belong to the key's id"),
        ("UnrecognizedClientException", "The security token included in the request is invalid", "does not accept"),
    ],
)  # fmt: skip
def test_credentials_that_are_no_good_are_to_be_renewed(stage: Stage, code: str, message: str, says: str) -> None:
    stage.cloud.fault("RunInstances", code=code, message=message, status=401)
    (error,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(error, AuthFailed) and "renew them" in str(error) and "aws sso login" in str(error)
    assert says in str(error)


@pytest.mark.parametrize(
    ("tells", "says"), [(True, "is not enabled for this account"), (False, "most often it is not")]
)
def test_a_region_that_the_account_has_not_enabled_is_told_as_that_and_not_as_lapsed_keys(
    stage: Stage, cloud: AwsCloud, tells: bool, says: str
) -> None:
    cloud.world.closed_regions, cloud.world.tells_regions = {"af-south-1"}, tells
    provider = stage.open(region="af-south-1")
    (scope,) = provider.list()
    assert not scope.complete and scope.code == AuthFailed.code and says in scope.error and "renew" not in scope.error
    assert "aws account enable-region --region-name af-south-1" in scope.error
    (who,) = provider.doctor()
    assert not who[1] and says in who[2]
    cloud.world.lapsed = True
    (scope,) = provider.list()
    assert "renew them" in scope.error, "where the keys are no good elsewhere either, nothing is said of the region"


@pytest.mark.parametrize(
    ("code", "message", "says"),
    [
        ("PendingVerification", "Your account is currently being verified", "still verifies this account"),
        ("Blocked", "This account is currently blocked", "ask AWS Support"),
        ("OptInRequired", "You are not subscribed to this service", "enable the region, or subscribe"),
    ],
)
def test_an_account_that_may_not_launch_is_told_as_that_and_not_as_lapsed_keys(
    stage: Stage, code: str, message: str, says: str
) -> None:
    stage.cloud.fault("RunInstances", code=code, message=message, status=400)
    (error,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(error, AuthFailed) and says in str(error) and "renew" not in str(error)


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (DENIED + f" iam:PassRole on resource: {ROLE} because no policy allows it." + CIPHER, "permission iam:PassRole"),
        ("You are not authorized to perform this operation." + CIPHER, "permission ec2:RunInstances"),
        (DENIED + " ec2:RunInstances with an explicit deny in a service control policy." + CIPHER, "forbids ec2:RunInst"),
    ],
)  # fmt: skip
def test_the_permission_that_is_lacking_is_the_one_that_aws_names(stage: Stage, message: str, says: str) -> None:
    stage.cloud.fault("RunInstances", code="UnauthorizedOperation", message=message, status=403)
    (error,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(error, AuthFailed) and says in str(error) and "Zm9vYmFy" not in str(error)


@pytest.mark.parametrize(
    ("code", "message", "says"),
    [
        ("InvalidParameterCombination", "The parameters do not go together", "do not go together"),
        ("InvalidParameterValue", "Invalid value 'x' for y", "Invalid value"),
        ("InvalidBlockDeviceMapping", "Volume of size 30GB is smaller than snapshot", "smaller than snapshot"),
        ("TagLimitExceeded", "The maximum number of Tags for a resource has been reached.", "more tags than AWS takes"),
        ("AuthFailure", "Not authorized for images: [ami-0123456789abcdef0]", "not shared with this account"),
        ("OptInRequired", "To use this AWS Marketplace product you need to accept terms: https://x", "terms"),
        ("AuthFailure.ServiceLinkedRoleCreationNotPermitted", "no permission to create the service-linked role",
         "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com"),
    ],
)  # fmt: skip
def test_what_trying_again_does_not_mend_is_told_and_the_other_offers_are_tried(
    stage: Stage, code: str, message: str, says: str
) -> None:
    stage.cloud.fault("RunInstances", code=code, message=message, status=400)
    (outcome,) = stage.want(1)
    assert outcome.code == BadRequest.code and says in outcome.error
    (outcome,) = stage.want(1)
    assert outcome.ok and len(stage.cloud.instances()) == 1


# ---------------------------------------------------------------- what EC2 does not know yet, or any more


@pytest.mark.parametrize(
    ("code", "thing"),
    [
        ("InvalidGroup.NotFound", "security group"),
        ("InvalidKeyPair.NotFound", "key pair"),
        ("InvalidPlacementGroup.Unknown", "placement group"),
    ],
)
def test_what_we_made_a_moment_ago_and_ec2_does_not_know_yet_is_waited_for(
    stage: Stage, cloud: AwsCloud, tmp_path: Path, code: str, thing: str
) -> None:
    provider = stage.open(key_of(tmp_path))
    gang = pool("gang", instances=["t3.micro"], one_zone=True)
    cloud.fault("RunInstances", code=code, message=f"The {thing} does not exist", status=400, times=2)
    (made,) = provider.create([stage.request("gang-1", wanted=gang)])
    assert isinstance(made, Instance), made
    assert cloud.world.actions().count("ec2:RunInstances") == 3


def test_a_security_group_that_ec2_does_not_know_yet_is_opened_when_it_does(stage: Stage, cloud: AwsCloud) -> None:
    cloud.fault("AuthorizeSecurityGroupIngress", code="InvalidGroup.NotFound", message="no such group", status=400)
    (made,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(made, Instance), made


@pytest.mark.parametrize("thing", ["security group", "key pair", "placement group"])
def test_what_somebody_deleted_is_made_again_and_the_launch_goes_on(
    stage: Stage, cloud: AwsCloud, tmp_path: Path, thing: str
) -> None:
    gang = pool("gang", instances=["t3.micro"], one_zone=True)
    provider = stage.open(key_of(tmp_path))
    clock = [0.0]
    provider._network._clock = lambda: clock[0]
    (first,) = provider.create([stage.request("gang-1", wanted=gang)])
    assert isinstance(first, Instance)
    provider.terminate([first.id])
    cloud.instances()
    delete(cloud, thing)
    clock[0] += 3600
    request = stage.request("gang-2", wanted=gang)
    (answer,) = provider.create([request])
    assert isinstance(answer, ProviderError) and answer.code == "not_yet" and "any more" in str(answer), answer
    (made,) = provider.create([request])
    assert isinstance(made, Instance), made


def delete(cloud: AwsCloud, thing: str) -> None:
    ec2 = cloud.client()
    if thing == "key pair":
        ec2.delete_key_pair(KeyName=ec2.describe_key_pairs()["KeyPairs"][0]["KeyName"])
    elif thing == "placement group":
        ec2.delete_placement_group(GroupName=next(iter(cloud.world.placement_groups)))
    else:
        groups = ec2.describe_security_groups()["SecurityGroups"]
        (ours,) = [g["GroupId"] for g in groups if g["GroupName"] != "default"]
        ec2.delete_security_group(GroupId=ours)


def test_a_group_of_the_users_that_is_not_there_is_told_and_not_waited_for(stage: Stage, cloud: AwsCloud) -> None:
    provider = stage.open(security_groups=["sg-0123456789abcdef0"])
    (answer,) = provider.create([stage.request("cpu-1")])
    assert isinstance(answer, BadRequest) and "sg-0123456789abcdef0" in str(answer)
    assert cloud.world.actions().count("ec2:RunInstances") == 1


def test_an_image_that_was_withdrawn_is_looked_up_again(stage: Stage, cloud: AwsCloud) -> None:
    clock = [0.0]
    stage.provider._images._clock = lambda: clock[0]
    (first,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(first, Instance)
    clock[0] += 86_400
    cloud.fault("RunInstances", code="InvalidAMIID.NotFound", message="The image id does not exist", status=400)
    asked = cloud.world.actions().count("ssm:GetParameter")
    request = stage.request("cpu-2")
    (answer,) = stage.provider.create([request])
    assert isinstance(answer, ProviderError) and answer.code == "not_yet"
    (made,) = stage.provider.create([request])
    assert isinstance(made, Instance) and cloud.world.actions().count("ssm:GetParameter") == asked + 1


def test_a_launch_that_waits_for_something_to_be_made_again_goes_on_by_itself(stage: Stage, cloud: AwsCloud) -> None:
    clock = [0.0]
    stage.provider._network._clock = lambda: clock[0]
    stage.provider.create([stage.request("cpu-99")])
    clock[0] += 3600
    cloud.fault("RunInstances", code="InvalidGroup.NotFound", message="The group does not exist", status=400)
    (outcome,) = stage.want(3)
    assert outcome.node and outcome.node.state is NodeState.PLANNED and "looking anew" in outcome.node.reason
    stage.now += 2
    (outcome,) = stage.provisioner.resume()
    assert outcome.ok and outcome.node and outcome.node.instance_id


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("DescribeVolumes", "InvalidVolume.NotFound"),
        ("AttachVolume", "InvalidVolume.NotFound"),
        ("AttachVolume", "InvalidInstanceID.NotFound"),
    ],
)
def test_a_volume_that_ec2_does_not_know_yet_is_waited_for(stage: Stage, cloud: AwsCloud, call: str, code: str) -> None:
    (made,) = stage.provider.create([stage.request("head-1")])
    assert isinstance(made, Instance)
    disk = stage.provider.make_head_disk(made.zone, 1 << 30, "once")
    cloud.fault(call, code=code, message="it does not exist", status=400)
    assert stage.provider.attach_head_disk(disk, made.id) is False
    wait_until(lambda: stage.provider.attach_head_disk(disk, made.id), what="the disk attached")


# ---------------------------------------------------------------- subnets without addresses


def test_a_full_subnet_gives_way_to_another_of_its_zone(stage: Stage, cloud: AwsCloud) -> None:
    ec2 = cloud.client()
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    spare = ec2.create_subnet(VpcId=vpc, CidrBlock="172.31.240.0/24", AvailabilityZone="us-east-1a")
    spare_id = spare["Subnet"]["SubnetId"]
    clock = [0.0]
    stage.provider._network._clock = lambda: clock[0]
    of = next(o for o in stage.provider.offers(stage.pools[0]) if o.zone == "us-east-1a")
    (first,) = stage.provider.create([stage.request("cpu-1", of)])
    assert isinstance(first, Instance)
    full = stage.provider._network.subnets()["us-east-1a"]
    assert full != spare_id, "the default one goes first"
    cloud._backend.get_subnet(full)._available_ip_addresses = 0
    cloud.fault("RunInstances", code="InsufficientFreeAddressesInSubnet", message="not enough free", status=400)
    clock[0] += 120
    (answer,) = stage.provider.create([stage.request("cpu-2", of)])
    assert isinstance(answer, NoCapacity)
    (made,) = stage.provider.create([stage.request("cpu-3", of)])
    assert isinstance(made, Instance)
    (call,) = [p for _, action, p in cloud.world.calls[-1:] if action == "ec2:RunInstances"]
    assert call["SubnetId"] == spare_id


def test_what_fits_into_a_subnet_is_launched(stage: Stage, cloud: AwsCloud) -> None:
    of = stage.provider.offers(stage.pools[0])[0]
    cloud.fault("RunInstances", code="InsufficientFreeAddressesInSubnet", message="not enough free", status=400)
    made = stage.provider.create([stage.request(f"cpu-{n}", of) for n in range(1, 5)])
    assert all(isinstance(result, Instance) for result in made) and len(cloud.instances()) == 4


# ---------------------------------------------------------------- before AWS is asked to launch


def test_what_never_got_to_aws_is_told_as_that(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    (scope,) = stage.open(endpoint_url="http://127.0.0.1:9").list()
    assert (
        "AWS could not be reached" in scope.error and "AWS_ENDPOINT_URL" in scope.error and "renew" not in scope.error
    )
    with pytest.raises(AuthFailed, match=r"no such profile .*nobody.*list-profiles"):
        stage.open(profile="nobody", region="")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (scope,) = stage.open().list()
    assert "this machine has no AWS credentials" in scope.error and "does not accept" not in scope.error


def test_a_subnet_that_has_ipv6_only_is_passed_over_and_refused_by_name(stage: Stage, cloud: AwsCloud) -> None:
    ec2 = cloud.client()
    (vpc,) = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    ec2.associate_vpc_cidr_block(VpcId=vpc["VpcId"], AmazonProvidedIpv6CidrBlock=True)
    (vpc,) = ec2.describe_vpcs(VpcIds=[vpc["VpcId"]])["Vpcs"]
    block = vpc["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"].replace("/56", "/64")
    made = ec2.create_subnet(VpcId=vpc["VpcId"], AvailabilityZone="us-east-1a", Ipv6CidrBlock=block, Ipv6Native=True)[
        "Subnet"
    ]["SubnetId"]
    assert made not in stage.open()._network.subnets().values()
    (answer,) = stage.open(subnets=[made]).create([stage.request("cpu-1")])
    assert isinstance(answer, BadRequest) and f"{made} has IPv6 addresses only" in str(answer)


def test_as_many_tags_as_validate_lets_through_are_not_too_many_for_anything_that_is_made(
    stage: Stage, cloud: AwsCloud, tmp_path: Path
) -> None:
    tags = {f"team-{number}": "x" for number in range(TAGS.users)}
    for head_machine, more in ((None, {"head_address": "10.0.0.5"}), (HeadMachine(public=False), {})):
        provider = stage.open(key_of(tmp_path), head_machine, tags=tags, **more)
        head = PoolRequest("head", {"instances": ["t3.micro"], "market": ["on-demand"]}, "head")
        request = stage.request("head-1", wanted=head)
        token = launch_token(stage.uid, "head-1", 1)
        node = Node("head-1", 1, token, request.offer, NodeState.PLANNED, 0.0, 0.0, "head", spec_hash="h")
        request = replace(request, tags=ownership_tags("demo", stage.uid, node))
        parameters = provider._launcher._calls.call_for(batch_of([request]), [request])
        most = max(len(spec["Tags"]) for spec in parameters["TagSpecifications"])
        assert most == TAGS.most, "and no fewer than there may be"


def test_an_image_from_which_nothing_can_be_launched_says_why(stage: Stage, cloud: AwsCloud) -> None:
    ec2 = cloud.client()
    image = str(stage.provider._images.find("", "x86_64", False).id)
    row = ec2.describe_images(ImageIds=[image])["Images"][0]
    with pytest.raises(BadRequest, match=f"{image} is disabled: nothing can be launched from it"):
        _checked({**row, "State": "disabled"}, "x86_64")
    with pytest.raises(BadRequest, match="there is none; an image belongs to one region, and to accounts"):
        stage.provider._images.find("ami-0123456789abcdef0", "x86_64", False)
