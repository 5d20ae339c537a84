"""What IAM says that we may do, action by action, without doing any of it: iam:SimulatePrincipalPolicy."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from clusterctl.core.errors import ProviderError
from clusterctl_providers.aws.calls import Calls
from clusterctl_providers.base import TAG_UID

log = logging.getLogger(__name__)

NOBODY = "00000000-0000-0000-0000-000000000000"  # stands for a cluster's uid where there is none yet
# (actions, resources, whose tags: those that it "gets" or those that it "has"); every action on every resource
_ASKED: tuple[tuple[tuple[str, ...], tuple[str, ...], str], ...] = (
    (("ec2:RunInstances",), ("instance/x", "volume/x", "network-interface/x", "spot-instances-request/x"), "gets"),
    (("ec2:RunInstances",), ("subnet/x", "security-group/x", "key-pair/x", "placement-group/x"), ""),
    (("ec2:CreateTags",), ("instance/x", "volume/x", "security-group/x"), "gets"),
    (("ec2:CreateSecurityGroup",), ("security-group/x",), "gets"),
    (("ec2:ImportKeyPair",), ("key-pair/x",), "gets"),
    (("ec2:CreatePlacementGroup",), ("placement-group/x",), "gets"),
    (("ec2:CreateVolume",), ("volume/x",), "gets"),
    (
        ("ec2:TerminateInstances", "ec2:StopInstances", "ec2:StartInstances", "ec2:GetConsoleOutput"),
        ("instance/x",),
        "has",
    ),
    (("ec2:AttachVolume",), ("instance/x", "volume/x"), "has"),
    (("ec2:DeleteVolume",), ("volume/x",), "has"),
    (
        (
            "ec2:AuthorizeSecurityGroupEgress",
            "ec2:AuthorizeSecurityGroupIngress",
            "ec2:DeleteSecurityGroup",
            "ec2:RevokeSecurityGroupIngress",
        ),
        ("security-group/x",),
        "has",
    ),
    (("ec2:DeleteKeyPair",), ("key-pair/x",), "has"),
    (("ec2:DeletePlacementGroup",), ("placement-group/x",), "has"),
)
_TYPES = {"ec2-instance-connect:remotePort": "numeric"}
_LISTS = ("iam:ListInstanceProfiles", "iam:ListRoles")
_GRANTS = ("iam:CreateRole", "iam:PutRolePolicy")
_ROLES = (
    "iam:DeleteRole", "iam:DeleteRolePolicy", "iam:DetachRolePolicy", "iam:GetRole", "iam:ListAttachedRolePolicies",
    "iam:ListRolePolicies", "iam:TagRole",
)  # fmt: skip
_PROFILES = (
    "iam:CreateInstanceProfile", "iam:DeleteInstanceProfile", "iam:GetInstanceProfile", "iam:TagInstanceProfile",
)  # fmt: skip
_BOTH = ("iam:AddRoleToInstanceProfile", "iam:RemoveRoleFromInstanceProfile")


def simulate(
    calls: Calls, me: Mapping[str, Any], uid: str, settings: Mapping[str, Any], *, roles: bool
) -> dict[str, bool] | None:
    """Action -> whether it is allowed; None where IAM does not tell us. `roles`: ask for those that make roles, too.
    `settings`: the provider's; how the head is reached may need some of its own."""
    arn, account = str(me["Arn"]), str(me["Account"])
    partition = arn.split(":")[1]
    if arn.endswith(":root"):
        return None
    source = _policy_source(calls, arn, account, partition)
    ec2 = f"arn:{partition}:ec2:{calls.region}:{account}:"
    place = f"clusterctl/{calls.region}/{uid or NOBODY}/clusterctl-doctor-head"
    role, profile = (f"arn:{partition}:iam::{account}:{kind}/{place}" for kind in ("role", "instance-profile"))
    tag = {"gets": f"aws:RequestTag/{TAG_UID}", "has": f"aws:ResourceTag/{TAG_UID}"}
    found: dict[str, bool] = {}
    try:
        for actions, resources, tagged in _ASKED:
            context = {tag[tagged]: uid or NOBODY} if tagged else {}
            if "ec2:CreateTags" in actions:
                context["ec2:CreateAction"] = "RunInstances"
            _ask(calls, source, actions, [ec2 + resource for resource in resources], context, found)
        for actions, resources, context in _of_the_way(calls.region, account, partition, uid, settings):
            _ask(calls, source, actions, resources, context, found)
        if roles:
            service = "ec2.amazonaws.com.cn" if partition == "aws-cn" else "ec2.amazonaws.com"
            boundary = str(settings.get("permissions_boundary") or "")
            _ask(calls, source, ["iam:PassRole"], [role], {"iam:PassedToService": service}, found)
            _ask(calls, source, _LISTS, ["*"], {}, found)
            _ask(calls, source, _GRANTS, [role], {"iam:PermissionsBoundary": boundary} if boundary else {}, found)
            _ask(calls, source, _ROLES, [role], {}, found)
            _ask(calls, source, _PROFILES, [profile], {}, found)
            _ask(calls, source, _BOTH, [profile], {}, found)
    except ProviderError as error:
        log.info("%s; permissions are asked for one by one", error)
        return None
    return found


def _of_the_way(
    region: str, account: str, partition: str, uid: str, settings: Mapping[str, Any]
) -> list[tuple[list[str], list[str], dict[str, str]]]:
    """(actions, resources, context) that the `aws` command needs as a way to the head's machine."""
    ec2 = f"arn:{partition}:ec2:{region}:{account}:"
    if settings.get("reach") == "ssm":
        document = f"arn:{partition}:ssm:{region}::document/AWS-StartSSHSession"
        tags = {f"ssm:resourceTag/{TAG_UID}": uid or NOBODY, f"aws:ResourceTag/{TAG_UID}": uid or NOBODY}
        start = ["ssm:StartSession"]
        return [(start, [f"{ec2}instance/x"], tags), (start, [document], {})]
    if settings.get("reach") == "instance-connect":
        open_tunnel, port = ["ec2-instance-connect:OpenTunnel"], {"ec2-instance-connect:remotePort": "22"}
        return [
            (open_tunnel, [f"{ec2}instance-connect-endpoint/x"], port),
            (["ec2:DescribeInstanceConnectEndpoints"], ["*"], {}),
        ]
    return []


def _policy_source(calls: Calls, arn: str, account: str, partition: str) -> str:
    """Policies belong to the role, not to the session that was made of it; its ARN may have a path."""
    kind, _, rest = arn.rpartition(":")[2].partition("/")
    if kind != "assumed-role":
        return arn
    name = rest.partition("/")[0]
    try:
        return str(calls.read("iam", "get_role", f"looking for the role {name}", RoleName=name)["Role"]["Arn"])
    except ProviderError:
        return f"arn:{partition}:iam::{account}:role/{name}"


def _ask(
    calls: Calls,
    source: str,
    actions: Sequence[str],
    resources: Sequence[str],
    context: Mapping[str, str],
    found: dict[str, bool],
) -> None:
    entries = [
        {"ContextKeyName": name, "ContextKeyValues": [value], "ContextKeyType": _TYPES.get(name, "string")}
        for name, value in sorted(context.items())
    ]
    answer = calls.read(
        "iam", "simulate_principal_policy", "asking IAM what we may do", PolicySourceArn=source,
        ActionNames=list(actions), ResourceArns=list(resources), **({"ContextEntries": entries} if entries else {}),
    )  # fmt: skip
    for row in answer["EvaluationResults"]:
        verdicts = [row["EvalDecision"], *(r["EvalResourceDecision"] for r in row.get("ResourceSpecificResults") or ())]
        action = str(row["EvalActionName"])
        found[action] = found.get(action, True) and all(verdict == "allowed" for verdict in verdicts)
