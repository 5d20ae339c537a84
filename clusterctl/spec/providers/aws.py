"""`provider: aws`: instances of EC2."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from clusterctl.spec.providers import cloud
from clusterctl.spec.providers.cloud import CloudSettings
from clusterctl.spec.providers.kind import Account, Cloud, IdForm, Kind, Kubernetes, Library, RayUp, Reach, Search
from clusterctl.spec.tags import TagRules

_MARKS = "_.:/=+-@"  # beside letters, digits and spaces: what every service of AWS takes, IAM's roles included
TAGS = TagRules(
    who="AWS",
    most=50,
    longest_key=128,
    longest_value=256,
    takes=lambda character: unicodedata.category(character)[0] in "LNZ" or character in _MARKS,
    taken=f"letters, digits, spaces and {' '.join(_MARKS)}",
    reserved=("aws:",),
    alike="on roles",
)


class AwsSettings(CloudSettings):
    """Nodes are EC2 instances."""

    region: str = Field(default="", description="Region, such as us-east-1.")
    vpc: str = Field(default="default", description="Id of the VPC, or `default`.")
    subnets: list[str] = Field(default=[], description="Subnets to use; default: those of the VPC in the pools' zones.")
    security_groups: list[str] = Field(
        default=[], description="Security groups of the nodes; default: one of the cluster's own."
    )
    profile: str = Field(default="", description="Profile in ~/.aws; default: the usual chain of credentials.")
    instance_profile: str = Field(
        default="", description="IAM instance profile of the head; default: one of the cluster's own."
    )
    worker_profile: str = Field(
        default="",
        description="IAM instance profile of the workers, or `auto` for one of the cluster's own to which you add what "
        "your jobs need; default: none.",
    )
    permissions_boundary: str = Field(
        default="",
        description="ARN of a policy that bounds the roles which are made, where the account wants one; default: none.",
        examples=["arn:aws:iam::123456789012:policy/boundary"],
    )
    ssh_from: list[str] = Field(
        default=[],
        description="Addresses and networks that may reach port 22, and no others; `me` is this machine's public address, "
        "`vpc` the VPC's networks. Default: `me` where the head is reached at a public address, private networks where it is "
        "reached at its private one, `vpc` for `instance-connect`, none for `ssm`, and none where it runs on a machine of yours.",
    )
    reach: Literal["public", "private", "ssm", "instance-connect"] = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default="public",
        description="How this machine gets to the head's instance: by its public address, by its private one (a VPN, or "
        "`auth.jump`), or through AWS's Session Manager or EC2 Instance Connect, with the `aws` command.",
    )
    tags: Annotated[dict[str, str], BeforeValidator(TAGS.read)] = Field(
        default={}, description=f"Tags for everything that is created, besides ours: {TAGS.users} at most."
    )


_COMMAND = {"aws": "install the AWS command line (https://docs.aws.amazon.com/cli/)"}
_PLUGIN = {"session-manager-plugin": "install the Session Manager plugin of the AWS command line"}
# The commands are as AWS documents them.
WAYS = {
    **cloud.WAYS,
    "ssm": Reach(
        public=False,
        opens=(),  # Session Manager needs no open port
        command="aws ssm start-session --target {id} --document-name AWS-StartSSHSession --parameters portNumber={port}",
        options=("region", "profile"),
        programs={**_COMMAND, **_PLUGIN},
    ),
    "instance-connect": Reach(
        public=False,
        opens=("vpc",),  # its endpoint is there
        command="aws ec2-instance-connect open-tunnel --instance-id {id} --remote-port {port}",
        options=("region", "profile"),
        programs=_COMMAND,
    ),
}

KIND = Kind(
    name="aws",
    title="AWS",
    settings=AwsSettings,
    works=True,
    machine="instance",
    head="instance",
    changes={
        **cloud.CHANGES,
        "vpc": "refused",
        "profile": "refused",
        "instance_profile": "refused",
        "permissions_boundary": "in-place",  # of roles to come
        "subnets": "replace",
        "security_groups": "replace",
        "worker_profile": "replace",
    },
    foreign=frozenset({"hosts", "host"}),
    starters={"aws": "tasks", "aws-gpu": "gpu", "aws-train": "train", "aws-serve": "serve"},
    other_names=("amazon", "ec2"),
    boot_seconds=60.0,
    search=Search(
        where=("region", "profile", "endpoint_url"),
        looked="account",
        account=Account(("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"), ("~/.aws",)),
    ),
    library=Library(
        extra="aws",
        modules=("boto3", "botocore"),
        # botocore describes four hundred services, 25 MiB packed
        data={"botocore/data": frozenset({"ec2", "iam", "pricing", "service-quotas", "ssm", "sts"})},
    ),
    cloud=Cloud(
        kubernetes=Kubernetes("eks", spot={"eks.amazonaws.com/capacityType": "SPOT"}),
        region="us-east-1",
        zone="{region}a",
        user="ubuntu",
        catalogue="aws",
        reach=WAYS,
        here_only=cloud.HERE_ONLY | {"profile"},
        speaks_s3=True,
        key_file="AWS_SHARED_CREDENTIALS_FILE",
        reservation=IdForm(r"cr-[0-9a-f]{8,17}", "cr-0123456789abcdef0"),
    ),
    ray_up=RayUp(
        "aws",
        settings={"region": "region"},
        zones="availability_zone",
        instance="InstanceType",
        disk="BlockDeviceMappings.0.Ebs.VolumeSize",
        image="ImageId",
        spot={"InstanceMarketOptions.MarketType": "spot"},
        settings_of_nodes={"SubnetIds": "subnets", "SecurityGroupIds": "security_groups"},
    ),
)
