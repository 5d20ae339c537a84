"""What a call needs of IAM: for each action the resources it touches, with the tags they have and those they get."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moto.ec2.models import ec2_backends

from tests.cloud.aws.identity import ACCOUNT, Principal, allows, iam
from tests.cloud.aws.world import Refusal, World

Need = tuple[str, str, dict[str, str]]  # action, resource's ARN, context
_MADE = {  # what a call makes
    "CreateVolume": "volume",
    "CreateSecurityGroup": "security-group",
    "ImportKeyPair": "key-pair",
    "CreateKeyPair": "key-pair",
    "CreatePlacementGroup": "placement-group",
    "CreateCapacityReservation": "capacity-reservation",
    "CreateLaunchTemplate": "launch-template",
    "CreateSubnet": "subnet",
    "CreateVpc": "vpc",
    "AllocateAddress": "elastic-ip",
    "CreateImage": "image",
    "CreateSnapshot": "snapshot",
}
_NAMED = {  # parameters that name what is there already
    "InstanceId": "instance",
    "InstanceIds": "instance",
    "VolumeId": "volume",
    "VolumeIds": "volume",
    "GroupId": "security-group",
    "GroupName": "placement-group",
    "KeyName": "key-pair",
    "VpcId": "vpc",
    "SubnetId": "subnet",
    "AllocationId": "elastic-ip",
    "CapacityReservationId": "capacity-reservation",
    "LaunchTemplateId": "launch-template",
    "ImageId": "image",
    "SnapshotId": "snapshot",
    "NetworkInterfaceId": "network-interface",
}


def authorize(
    world: World, principal: Principal, service: str, region: str, action: str, parameters: dict[str, Any]
) -> None:
    """Raises Refusal in the service's words when the principal's policies do not allow the call."""
    if principal.policies is None or (service, action) == ("sts", "GetCallerIdentity"):
        return
    policies = principal.policies()
    if action == "RunInstances" and _is_spot(parameters):
        _let_ec2_have_its_spot_role(world, policies)
    for permission, resource, context in needs(world, service, region, action, parameters):
        if allows(policies, permission, resource, {"aws:RequestedRegion": region, **context}):
            continue
        text = (
            f"User: {principal.arn} is not authorized to perform: {permission} on resource: {resource} because no "
            f"identity-based policy allows the {permission} action"
        )
        if service == "ec2":
            raise Refusal("UnauthorizedOperation", f"You are not authorized to perform this operation. {text}", 403)
        raise Refusal("AccessDenied" if service == "iam" else "AccessDeniedException", text, 403)


def _is_spot(parameters: dict[str, Any]) -> bool:
    return parameters.get("InstanceMarketOptions", {}).get("MarketType") == "spot"


def _let_ec2_have_its_spot_role(world: World, policies: list[dict[str, Any]]) -> None:
    """The first spot launch of an account makes a role for EC2 itself, with the rights of who launches."""
    name = "aws-service-role/spot.amazonaws.com/AWSServiceRoleForEC2Spot"
    context = {"iam:AWSServiceName": "spot.amazonaws.com"}
    if not world.spot_role and not allows(
        policies, "iam:CreateServiceLinkedRole", f"arn:aws:iam::{ACCOUNT}:role/{name}", context
    ):
        text = (
            "The provided credentials do not have permission to create the service-linked role for EC2 Spot Instances."
        )
        raise Refusal("AuthFailure.ServiceLinkedRoleCreationNotPermitted", text, 403)
    world.spot_role = True


def needs(world: World, service: str, region: str, action: str, parameters: dict[str, Any]) -> list[Need]:
    permission = f"{service}:{action}"
    if service == "iam":
        return list(_of_iam(permission, action, parameters))
    if service == "ssm" and "Name" in parameters:
        owner = "" if parameters["Name"].startswith("/aws/") else ACCOUNT
        return [(permission, f"arn:aws:ssm:{region}:{owner}:parameter{parameters['Name']}", {})]
    if service != "ec2" or (action.startswith(("Describe", "Get")) and action != "GetConsoleOutput"):
        return [(permission, "*", {})]
    place = _Place(world, region)
    if action == "RunInstances":
        return list(_of_launch(place, parameters))
    return list(_of_change(place, permission, action, parameters))


class _Place:
    def __init__(self, world: World, region: str) -> None:
        self.world, self.region, self.backend = world, region, ec2_backends[ACCOUNT][region]

    def arn(self, kind: str, name: str) -> str:
        owner = "" if kind in ("image", "snapshot") else ACCOUNT
        return f"arn:aws:ec2:{self.region}:{owner}:{kind}/{name}"

    def tags(self, kind: str, name: str) -> dict[str, str]:
        """Of what is there, as a policy sees them."""
        if kind == "placement-group":
            rows = self.world.placement_groups.get(name, {}).get("Tags", [])
            found = {row["Key"]: row["Value"] for row in rows}
        elif kind == "key-pair":
            pair = self.backend.key_pairs.get(name)
            found = self.backend.tags.get(pair.id, {}) if pair else {}
        else:
            found = self.backend.tags.get(name, {})
        both = ("aws:ResourceTag", "ec2:ResourceTag")
        return {f"{prefix}/{key}": value for key, value in found.items() for prefix in both}


def _asked(parameters: dict[str, Any], kind: str) -> dict[str, str]:
    """Tags that a call gives to what it makes."""
    pairs = [
        (tag["Key"], tag["Value"])
        for item in parameters.get("TagSpecifications", [])
        if item["ResourceType"] == kind
        for tag in item.get("Tags", [])
    ]
    return _request_tags(pairs)


def _request_tags(pairs: list[tuple[str, str]]) -> dict[str, str]:
    context = {f"aws:RequestTag/{key}": value for key, value in pairs}
    return {**context, "aws:TagKeys": "\n".join(key for key, _ in pairs)} if pairs else {}


def _of_launch(place: _Place, parameters: dict[str, Any]) -> Iterator[Need]:
    action = "ec2:RunInstances"
    made = ["instance", "volume", "network-interface"]
    if _is_spot(parameters):
        made.append("spot-instances-request")
    facts = {"ec2:InstanceType": parameters.get("InstanceType", "")}
    options = parameters.get("MetadataOptions", {})
    facts["ec2:MetadataHttpTokens"] = options.get("HttpTokens", "optional")
    facts["ec2:MetadataHttpPutResponseHopLimit"] = str(options.get("HttpPutResponseHopLimit", 1))
    for kind in made:
        yield action, place.arn(kind, "*"), {**facts, **_asked(parameters, kind)}
    interfaces = parameters.get("NetworkInterfaces", [])
    subnets = {parameters.get("SubnetId"), *(i.get("SubnetId") for i in interfaces)}
    groups = {*parameters.get("SecurityGroupIds", []), *(g for i in interfaces for g in i.get("Groups", []))}
    uses = {
        ("image", parameters.get("ImageId")),
        *(("subnet", s) for s in subnets),
        *(("security-group", g) for g in groups),
    }
    uses |= {
        ("key-pair", parameters.get("KeyName")),
        ("placement-group", parameters.get("Placement", {}).get("GroupName")),
    }
    for kind, name in sorted((kind, name) for kind, name in uses if name):
        yield action, place.arn(kind, name), {**facts, **place.tags(kind, name)}
    for item in parameters.get("TagSpecifications", []):
        kind = item["ResourceType"]
        context = {**_asked(parameters, kind), "ec2:CreateAction": "RunInstances"}
        yield "ec2:CreateTags", place.arn(kind, "*"), context
    profile = parameters.get("IamInstanceProfile", {})
    name = profile.get("Name") or profile.get("Arn", "").rpartition("/")[2]
    for known in iam().instance_profiles.values():
        if known.name == name:
            yield from (_pass(role) for role in known.roles)


def _pass(role: Any) -> Need:
    return "iam:PassRole", role.arn, {"iam:PassedToService": "ec2.amazonaws.com"}


def _of_change(place: _Place, permission: str, action: str, parameters: dict[str, Any]) -> Iterator[Need]:
    made = _MADE.get(action, "")
    if made:
        name = parameters.get("KeyName" if made == "key-pair" else "GroupName", "*")
        name = name if made in ("key-pair", "placement-group") else "*"
        asked = _asked(parameters, made)
        yield permission, place.arn(made, name), asked
        if asked:
            yield "ec2:CreateTags", place.arn(made, name), {**asked, "ec2:CreateAction": action}
    if action in ("CreateTags", "DeleteTags"):
        tags = _request_tags([(tag["Key"], tag.get("Value", "")) for tag in parameters.get("Tags", [])])
        for resource in parameters["Resources"]:
            kind = _kind_of(resource)
            yield permission, place.arn(kind, resource), {**tags, **place.tags(kind, resource)}
        return
    own = {"key-pair": ["KeyName"], "placement-group": ["GroupName"], "security-group": ["GroupName"]}.get(made, [])
    touched = False
    for parameter, kind in _NAMED.items():
        if parameter not in parameters or parameter in own:
            continue
        if parameter == "GroupName" and "SecurityGroup" in action:
            continue
        value = parameters[parameter]
        for name in value if isinstance(value, list) else [value]:
            touched = True
            yield permission, place.arn(kind, name), place.tags(kind, name)
    if not (made or touched):
        yield permission, "*", {}


def _kind_of(resource: str) -> str:
    prefixes = {"i": "instance", "vol": "volume", "sg": "security-group", "subnet": "subnet", "vpc": "vpc",
                "eni": "network-interface", "key": "key-pair", "cr": "capacity-reservation", "snap": "snapshot",
                "ami": "image", "eipalloc": "elastic-ip", "pg": "placement-group", "lt": "launch-template"}  # fmt: skip
    return prefixes.get(resource.partition("-")[0], "*")


def _of_iam(permission: str, action: str, parameters: dict[str, Any]) -> Iterator[Need]:
    tags = _request_tags([(tag["Key"], tag["Value"]) for tag in parameters.get("Tags", [])])
    role, profile = parameters.get("RoleName"), parameters.get("InstanceProfileName")
    if profile:
        known = next((p for p in iam().instance_profiles.values() if p.name == profile), None)
        path = (known.path if known else parameters.get("Path")) or "/"
        context = {**tags, **_own_tags(known)}
        yield permission, f"arn:aws:iam::{ACCOUNT}:instance-profile{path}{profile}", context
    if role:
        known = next((r for r in iam().roles.values() if r.name == role), None)
        path = (known.path if known else parameters.get("Path")) or "/"
        if action == "AddRoleToInstanceProfile":
            if known:
                yield _pass(known)
        elif not profile:
            context = {**tags, **_own_tags(known)}
            boundary = parameters.get("PermissionsBoundary") or getattr(known, "permissions_boundary_arn", None)
            if boundary:
                context["iam:PermissionsBoundary"] = str(boundary)
            yield permission, f"arn:aws:iam::{ACCOUNT}:role{path}{role}", context
    if not (role or profile):
        yield permission, parameters.get("PolicySourceArn", "*"), tags


def _own_tags(known: Any) -> dict[str, str]:
    tags = getattr(known, "tags", None) or []
    pairs = tags.items() if isinstance(tags, dict) else [(t["Key"], t["Value"]) for t in tags]
    return {f"aws:ResourceTag/{key}": value["Value"] if isinstance(value, dict) else value for key, value in pairs}
