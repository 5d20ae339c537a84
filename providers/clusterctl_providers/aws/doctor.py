"""What `clusterctl doctor` asks AWS: who we are, and each permission by name, with calls that change nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clusterctl_providers.aws.calls import Calls, permission
from clusterctl_providers.aws.errors import code_behind
from clusterctl_providers.aws.quotas import PAGE, quota_of
from clusterctl_providers.aws.simulation import NOBODY, simulate
from clusterctl_providers.base import TAG_UID
from clusterctl_providers.cloud.doctor import Check, Rows, optional_row, permission_rows, tried_row
from clusterctl_providers.cloud.doctor import examine as examine_all
from clusterctl_providers.cloud.quotas import Quotas, quota_rows

_NOWHERE = "i-00000000000000000"
_RULE = [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "127.0.0.1/32"}]}]

# what is called for real, since it only reads
_READS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("ec2", "describe_vpcs", {}),
    ("ec2", "describe_subnets", {}),
    ("ec2", "describe_instances", {"MaxResults": 5}),
    ("ec2", "describe_images", {"Owners": ["self"]}),
    ("ec2", "describe_instance_types", {"InstanceTypes": ["t3.micro"]}),
    ("ec2", "describe_instance_type_offerings", {"Filters": [{"Name": "instance-type", "Values": ["t3.micro"]}]}),
    ("ec2", "describe_spot_price_history", {"InstanceTypes": ["t3.micro"], "MaxResults": 5}),
    ("ec2", "describe_security_groups", {"MaxResults": 5}),
    ("ec2", "describe_key_pairs", {}),
    ("ec2", "describe_placement_groups", {}),
    ("ec2", "describe_volumes", {"MaxResults": 5}),
    ("ec2", "describe_capacity_reservations", {"MaxResults": 5}),
    ("ssm", "get_parameter", {"Name": "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"}),
)
# what is asked with DryRun where IAM does not tell: AWS says whether it would be allowed, and does nothing
_CHANGES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("run_instances", {"InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1}),
    ("terminate_instances", {"InstanceIds": [_NOWHERE]}),
    ("create_security_group", {"GroupName": "clusterctl-doctor", "Description": "asked by clusterctl doctor"}),
    ("authorize_security_group_ingress", {"GroupId": "sg-00000000000000000", "IpPermissions": _RULE}),
    ("authorize_security_group_egress", {"GroupId": "sg-00000000000000000", "IpPermissions": _RULE}),
    ("revoke_security_group_ingress", {"GroupId": "sg-00000000000000000", "IpPermissions": _RULE}),
    ("delete_security_group", {"GroupId": "sg-00000000000000000"}),
    ("import_key_pair", {"KeyName": "clusterctl-doctor", "PublicKeyMaterial": b"ssh-ed25519 AAAA"}),
    ("delete_key_pair", {"KeyName": "clusterctl-doctor"}),
    ("create_placement_group", {"GroupName": "clusterctl-doctor", "Strategy": "cluster"}),
    ("delete_placement_group", {"GroupName": "clusterctl-doctor"}),
    ("create_volume", {"Size": 1}),
    ("attach_volume", {"VolumeId": "vol-00000000000000000", "InstanceId": _NOWHERE, "Device": "/dev/sdh"}),
    ("delete_volume", {"VolumeId": "vol-00000000000000000"}),
    ("get_console_output", {"InstanceId": _NOWHERE}),
)


_TAGGED = {
    "run_instances": ("instance", "volume", "network-interface"),
    "create_security_group": ("security-group",),
    "import_key_pair": ("key-pair",),
    "create_placement_group": ("placement-group",),
    "create_volume": ("volume",),
}
SIMULATE = "iam:SimulatePrincipalPolicy"
USUAL = (("m6i.large", "on-demand", 2), ("g6.xlarge", "on-demand", 4), ("g6.xlarge", "spot", 4))


def examine(
    calls: Calls,
    quotas: Quotas,
    uid: str,
    settings: Mapping[str, Any],
    wanted: Sequence[tuple[str, str, int]] = USUAL,
    *,
    roles: bool = True,
) -> list[Check]:
    """(what was checked, ok, what to do). Stops at the credentials when AWS does not know them. `wanted`: (instance type,
    market, vCPUs of one) whose quotas are looked up. `roles`: whether clusterctl makes the roles of the cluster's
    machines."""
    me: dict[str, Any] = {}

    def who() -> str:
        me.update(calls.read("sts", "get_caller_identity", "asking AWS who we are"))
        return f"{me['Arn']} in {calls.region}"

    def changes() -> Rows:
        simulated = simulate(calls, me, uid, settings, roles=roles)
        if simulated is not None:
            return permission_rows(simulated, lambda action: _fix(action, str(me["Arn"])))
        not_told: list[Check] = [(f"permissions to make roles: not to be looked up ({SIMULATE})", True, "")]
        return [_dry_run(calls, operation, given, uid) for operation, given in _CHANGES] + (not_told if roles else [])

    limits = [(quota_of(instance_type, market), instance_type, vcpus) for instance_type, market, vcpus in wanted]
    return examine_all(
        "AWS",
        who,
        lambda: [_tried(calls, service, operation, given) for service, operation, given in _READS],
        changes,
        lambda: [_prices(calls)],
        lambda: quota_rows(quotas, limits, calls.region, "servicequotas:GetServiceQuota", PAGE),
    )


def _fix(action: str, arn: str) -> str:
    for way, start in (("ssm", "ssm:"), ("instance-connect", "ec2-instance-connect:")):
        if action.startswith(start):
            return f"{arn} lacks the permission {action}, which `reach: {way}` needs: the policy `{way}` of docs/aws.md has it"
    return (
        f"{arn} lacks the permission {action}: add it to its policy, or the whole policy that "
        "`python -m clusterctl_providers.aws.policies client` prints (docs/aws.md)"
    )


def _dry_run(calls: Calls, operation: str, parameters: dict[str, Any], uid: str) -> Check:
    """What makes something says the tags that it would get, since policies may ask for them."""
    kinds = _TAGGED.get(operation, ())
    tags = [{"ResourceType": kind, "Tags": [{"Key": TAG_UID, "Value": uid or NOBODY}]} for kind in kinds]
    tagged: dict[str, Any] = {"TagSpecifications": tags} if tags else {}
    if operation == "create_volume":
        tagged["AvailabilityZone"] = f"{calls.region}a"
    return _tried(calls, "ec2", operation, {**parameters, **tagged, "DryRun": True})


def _tried(calls: Calls, service: str, operation: str, parameters: dict[str, Any]) -> Check:
    action = permission(service, operation)
    return tried_row(
        action,
        lambda: calls.call(service, operation, f"checking {action}", **parameters),
        lambda error: code_behind(error) == "DryRunOperation",
    )


def _prices(calls: Calls) -> Check:
    filters = [{"Type": "TERM_MATCH", "Field": "instanceType", "Value": "t3.micro"}]
    given = {"ServiceCode": "AmazonEC2", "Filters": filters, "MaxResults": 1}
    return optional_row(
        "prices of today (pricing:GetProducts)",
        lambda: calls.call("pricing", "get_products", "asking for a price", **given),
        "those of the catalogue are used",
    )
