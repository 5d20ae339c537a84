"""moto made to behave like EC2 where it does not: states that take time, ClientToken, MaxCount, capacity, quotas, spot,
placement groups, permissions. Patches moto's classes once per process; what they do is ruled by `WORLD`."""

from __future__ import annotations

import base64
import copy
import hashlib
import ipaddress
import json
import os
import random
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

os.environ["MOTO_AMIS_PATH"] = str(Path(__file__).with_name("images.json"))
os.environ["MOTO_ENABLE_AMI_VALIDATION"] = "true"
os.environ["MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION"] = "true"

from moto.core import responses as core_responses
from moto.core.responses import ActionResult
from moto.ec2 import utils as ec2_utils
from moto.ec2.models import ec2_backends
from moto.ec2.models.core import TaggedEC2Resource
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.models.instances import Instance, InstanceBackend, StateReason
from moto.ec2.models.subnets import Subnet
from moto.ec2.responses import EC2Response

from tests.cloud.aws import volumes as aws_volumes
from tests.cloud.aws.identity import ACCOUNT, iam
from tests.cloud.aws.world import Refusal, World
from tests.cloud.world import Timetable

WORLD = World()
aws_volumes.install(WORLD)
_NEXT = Timetable()  # of instances: the state's name and code
_BORN: dict[str, float] = {}
_VERSION: dict[str, int] = {}
_ITEMS: dict[tuple[Any, ...], str] = {}  # serialised instances: EC2's XML of one costs moto 5 ms
_RELEASED: set[str] = set()


def forget() -> None:
    _NEXT.clear()
    for memory in (_BORN, _VERSION, _ITEMS, _RELEASED):
        memory.clear()
    aws_volumes.forget()


def vcpus_of(instance_type: str) -> int:
    return int(INSTANCE_TYPES[instance_type]["VCpuInfo"]["DefaultVCpus"])


# ---------------------------------------------------------------- states


def _become(instance: Any, name: str, code: int) -> None:
    instance._state.name, instance._state.code = name, code
    _VERSION[instance.id] = _VERSION.get(instance.id, 0) + 1
    for listener in list(WORLD.listeners):
        listener(name, instance)
    if name == "running":
        aws_volumes.started(WORLD, instance)
    elif name == "terminated":
        aws_volumes.ended(WORLD, instance)


def advance(region: str) -> None:
    """Moves every instance on whose time has come."""
    now = WORLD.clock()
    with WORLD.lock:
        for instance_id, (name, code) in _NEXT.take(now):
            instance = ec2_backends[ACCOUNT][region].get_instance_by_id(instance_id)
            if instance is not None and name == "stillborn":
                _end_for(instance, WORLD.stillborn)
            elif instance is not None:
                _become(instance, name, code)
        aws_volumes.advance(WORLD, ec2_backends[ACCOUNT][region])


def _terminate(self: Any, *args: Any, **kwargs: Any) -> Any:
    previous = copy.copy(self._state)
    if self._state.name in ("terminated", "shutting-down"):
        return previous
    _plain_terminate(self, *args, **kwargs)
    with WORLD.lock:
        _become(self, "shutting-down", 32)
        _NEXT.put(self.id, WORLD.clock() + WORLD.end_seconds, ("terminated", 48))
        if self.id not in _RELEASED:
            _RELEASED.add(self.id)
            market = self.lifecycle or "on-demand"
            WORLD.give_back(self.instance_type, self._placement.zone, market, vcpus_of(self.instance_type))
    return previous


_plain_terminate = Instance.terminate
Instance.terminate = _terminate


def _next_address(self: Any, instance: Any) -> str:
    """One that has just become free is given away last, as in a network of EC2: moto gives it to whoever asks next."""
    used = {*self._subnet_ips, str(self.cidr.broadcast_address), *self._unused_ips}
    fresh = next((str(ip) for ip in self._subnet_ip_generator if str(ip) not in used), "")
    address = fresh or self._unused_ips.pop()
    self._subnet_ips[address] = instance
    return address


Subnet.get_available_subnet_ip = _next_address


def interrupt(region: str, instance_id: str) -> None:
    """EC2 takes a spot instance back."""
    _end_for(ec2_backends[ACCOUNT][region].get_instance(instance_id), "Server.SpotInstanceTermination")


_WORDS = {
    "Server.SpotInstanceTermination": "Spot instance termination",
    "Server.InsufficientInstanceCapacity": "Insufficient capacity to launch the instance",
    "Client.InternalError": "Client error on launch",
    "Client.VolumeLimitExceeded": "Volume limit exceeded",
    "Client.InvalidKMSKey.InvalidKeyId": "The KMS key provided is incorrect",
}


def _end_for(instance: Any, code: str) -> None:
    instance.terminate()
    instance.state_reason = StateReason(f"{code}: {_WORDS[code]}", code)


# ---------------------------------------------------------------- launches


def _backend_run(self: Any, image_id: str, count: int, user_data: Any, groups: Any, **kwargs: Any) -> Any:
    reservation = _plain_backend_run(self, image_id, count, user_data, groups, **kwargs)
    now = WORLD.clock()
    with WORLD.lock:
        for instance in reservation.instances:
            if kwargs.get("lifecycle"):
                instance.lifecycle = kwargs["lifecycle"]
            _BORN[instance.id] = now
            _NEXT.put(instance.id, now + WORLD.boot_seconds, ("running", 16))
            if WORLD.stillborn:
                _NEXT.put(instance.id, now + WORLD.stillborn_after, ("stillborn", 0))
            _become(instance, "pending", 0)
    return reservation


_plain_backend_run = InstanceBackend.run_instances
InstanceBackend.run_instances = _backend_run


def _run_instances(self: Any) -> Any:
    get = self._get_param
    token = get("ClientToken")
    flat = {k: v for k, v in sorted(self.querystring.items()) if k not in ("ClientToken", "DryRun")}
    digest = hashlib.sha256(json.dumps(flat, default=str).encode()).hexdigest()
    self.error_on_dryrun()
    with WORLD.lock:
        if token and (self.region, token) in WORLD.tokens:
            known, reservation_id = WORLD.tokens[self.region, token]
            if known != digest:
                raise Refusal(
                    "IdempotentParameterMismatch",
                    "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
                )
            return ActionResult(self.ec2_backend.reservations[reservation_id])
        instance_type, zone, market = _check_launch(self)
        least, most = int(get("MinCount")), int(get("MaxCount"))
        vcpus = vcpus_of(instance_type)
        count = WORLD.take(instance_type, zone, market, vcpus, least, most)
        self.params["MinCount"] = count  # all that moto looks at
        try:
            answer = _plain_run(self)
        except Exception:
            WORLD.give_back(instance_type, zone, market, vcpus, count)
            raise
        _finish_launch(self, answer.result, market)
        if token:
            WORLD.tokens[self.region, token] = (digest, answer.result.id)
        return answer


_plain_run = EC2Response.run_instances
EC2Response.run_instances = _run_instances


def _check_launch(response: Any) -> tuple[str, str, str]:
    get, backend = response._get_param, response.ec2_backend
    instance_type = get("InstanceType") or "m1.small"
    if instance_type not in INSTANCE_TYPES:
        raise Refusal("InvalidParameterValue", f"Invalid value '{instance_type}' for InstanceType.")
    if get("KeyName") and get("KeyName") not in backend.key_pairs:
        raise Refusal("InvalidKeyPair.NotFound", f"The key pair '{get('KeyName')}' does not exist")
    if len(base64.b64decode(get("UserData") or "")) > 16384:
        raise Refusal("InvalidParameterValue", "User data is limited to 16384 bytes")
    _check_profile(get("IamInstanceProfile.Name"), get("IamInstanceProfile.Arn"))
    group = get("Placement.GroupName")
    if group and group not in WORLD.placement_groups:
        raise Refusal("InvalidPlacementGroup.Unknown", f"The Placement Group '{group}' is unknown.")
    interfaces = get("NetworkInterfaces", [])
    _check_address(response, get("PrivateIpAddress") or (interfaces[0].get("PrivateIpAddress") if interfaces else None))
    subnet = get("SubnetId") or (interfaces[0].get("SubnetId") if interfaces else None)
    zone = backend.get_subnet(subnet).availability_zone if subnet else response.region + "a"
    if not WORLD.sells(instance_type, zone):
        raise Refusal(
            "Unsupported",
            f"Your requested instance type ({instance_type}) is not supported in your requested Availability Zone ({zone}).",
        )
    return instance_type, zone, get("InstanceMarketOptions.MarketType") or "on-demand"


def _check_profile(name: str | None, arn: str | None) -> None:
    if not (name or arn):
        return
    wanted = name or str(arn).rpartition("/")[2]
    profile = next((p for p in iam().instance_profiles.values() if wanted == p.name), None)
    if profile is None or WORLD.clock() < WORLD.profiles_known.get(wanted, 0.0):
        kind, spelt = ("name", "name") if name else ("arn", "ARN")
        text = f"Value ({name or arn}) for parameter iamInstanceProfile.{kind} is invalid. Invalid IAM Instance Profile {spelt}"
        raise Refusal("InvalidParameterValue", text)
    if not profile.roles:
        text = f"IAM Instance Profile '{profile.arn}' has no associated IAM Roles"
        raise Refusal("InvalidParameterValue", text)


def _check_address(response: Any, address: str | None) -> None:
    """A private address that the caller chose."""
    if not address:
        return
    get, backend = response._get_param, response.ec2_backend
    if int(get("MaxCount")) > 1:
        text = "The parameter 'PrivateIpAddress' cannot be used when launching more than one instance"
        raise Refusal("InvalidParameterCombination", text)
    for instance in backend.all_instances():
        if instance.private_ip == address:
            if instance._state.name != "terminated":
                raise Refusal("InvalidIPAddress.InUse", f"Address {address} is in use.")
            backend.get_subnet(instance.subnet_id).del_subnet_ip(address)
    interfaces = get("NetworkInterfaces", [])
    subnet_id = get("SubnetId") or (interfaces[0].get("SubnetId") if interfaces else None)
    subnet = backend.get_subnet(subnet_id) if subnet_id else None
    if subnet is None or ipaddress.ip_address(address) not in subnet.cidr:
        raise Refusal("InvalidParameterValue", "Address does not fall within the subnet's address range")


def _finish_launch(response: Any, reservation: Any, market: str) -> None:
    profile = response._get_param("IamInstanceProfile.Name")
    profile_arn = response._get_param("IamInstanceProfile.Arn")
    for index, instance in enumerate(reservation.instances):
        instance.client_token = response._get_param("ClientToken")
        instance.ami_launch_index = index
        instance.lifecycle = "spot" if market == "spot" else None
        instance.placement.group_name = response._get_param("Placement.GroupName") or ""
        if market == "spot":
            instance.spot_instance_request_id = f"sir-{''.join(random.choices('abcdefgh0123456789', k=8))}"
        if (profile or profile_arn) and index:  # moto gives the profile to the first one only
            response.ec2_backend.associate_iam_instance_profile(
                instance_id=instance.id, iam_instance_profile_name=profile, iam_instance_profile_arn=profile_arn
            )


# ---------------------------------------------------------------- lists

Instance.spot_instance_request_id = None
ec2_utils.filter_dict_attribute_mapping.update({
    "instance-lifecycle": "lifecycle",
    "client-token": "client_token",
    "placement-group-name": "placement.group_name",
    "spot-instance-request-id": "spot_instance_request_id",
})  # fmt: skip


def _tags_of(self: Any) -> list[dict[str, str]]:
    """moto scans all tags of the account for each resource; this is the same by look-up."""
    if not self.id:
        return []
    kind = ec2_utils.EC2_PREFIX_TO_RESOURCE.get(ec2_utils.get_prefix(self.id), "")
    tags = self.ec2_backend.tags.get(self.id, {})
    return [{"resource_id": self.id, "key": k, "value": v, "resource_type": kind} for k, v in tags.items()]


TaggedEC2Resource.get_tags = _tags_of

_plain_passes = ec2_utils.passes_filter_dict


def _passes(instance: Any, filters: dict[str, Any]) -> bool:
    for name in filters:
        if not (name.startswith("tag") or name in ec2_utils.filter_dict_attribute_mapping):
            raise Refusal("InvalidParameterValue", f"The filter '{name}' is invalid")
    return _plain_passes(instance, filters)


ec2_utils.passes_filter_dict = _passes
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'


def _describe_instances(self: Any) -> Any:
    now = WORLD.clock()
    hidden = {i for i, born in _BORN.items() if now - born < WORLD.visible_after} if WORLD.visible_after else set()
    if WORLD.page_size < int(self._get_param("MaxResults") or 1000):
        self.params["MaxResults"] = str(WORLD.page_size)
        self.querystring["MaxResults"] = [str(WORLD.page_size)]
    answer = _plain_describe(self)
    body: list[str] = []
    for reservation in answer.result["Reservations"]:
        items = [_item(self, reservation, i) for i in reservation.instances if i.id not in hidden]
        if items:
            body.append(
                f"<item><reservationId>{reservation.id}</reservationId><ownerId>{reservation.owner_id}</ownerId><groupSet/>"
                f"<instancesSet>{''.join(items)}</instancesSet></item>"
            )
    token = answer.result.get("NextToken")
    more = f"<nextToken>{token}</nextToken>" if token else ""
    text = f"{_HEAD}<requestId>r</requestId><reservationSet>{''.join(body)}</reservationSet>{more}</DescribeInstancesResponse>"
    return 200, {"Content-Type": "text/xml"}, text


_plain_describe = EC2Response.describe_instances
EC2Response.describe_instances = _describe_instances


def _item(response: Any, reservation: Any, instance: Any) -> str:
    tags = tuple(response.ec2_backend.tags.get(instance.id, {}).items())
    key = (instance.id, _VERSION.get(instance.id, 0), tags)
    if key not in _ITEMS:
        one = copy.copy(reservation)
        one.instances = [instance]
        text = response.serialized(ActionResult({"Reservations": [one]}))[2]
        text = text.decode() if isinstance(text, bytes) else text
        _ITEMS[key] = text[text.index("<instancesSet>") + 14 : text.rindex("</instancesSet>")]
    return _ITEMS[key]


def _in_use(response: Any, group_id: str) -> bool:
    return any(
        group.id == group_id
        for instance in response.ec2_backend.all_instances()
        if instance._state.name != "terminated"
        for group in instance.dynamic_group_list
    )


def _delete_security_group(self: Any) -> Any:
    self.error_on_dryrun()
    if _in_use(self, self._get_param("GroupId")):
        raise Refusal("DependencyViolation", f"resource {self._get_param('GroupId')} has a dependent object")
    return _plain_delete_group(self)


_plain_delete_group = EC2Response.delete_security_group
EC2Response.delete_security_group = _delete_security_group


# ---------------------------------------------------------------- what moto lacks


def _tags_in(response: Any) -> list[dict[str, str]]:
    given = response._get_param("TagSpecifications", [])
    return [{"Key": tag["Key"], "Value": tag["Value"]} for item in given for tag in item.get("Tags", [])]


def _create_placement_group(self: Any) -> Any:
    self.error_on_dryrun()
    name = self._get_param("GroupName")
    if name in WORLD.placement_groups:
        raise Refusal("InvalidPlacementGroup.Duplicate", f"The Placement Group '{name}' already exists.")
    group = {
        "GroupName": name,
        "GroupId": f"pg-{os.urandom(8).hex()}0",
        "Strategy": self._get_param("Strategy") or "cluster",
        "State": "available",
        "Tags": _tags_in(self),
    }
    WORLD.placement_groups[name] = group
    return ActionResult({"PlacementGroup": group})


def _describe_placement_groups(self: Any) -> Any:
    groups = list(WORLD.placement_groups.values())
    for item in self._get_param("Filters", []):
        if item["Name"] == "tag-key":
            groups = [g for g in groups if {t["Key"] for t in g["Tags"]} & set(item["Values"])]
            continue
        if not item["Name"].startswith("tag:"):
            raise Refusal("InvalidParameterValue", f"The filter '{item['Name']}' is invalid")
        wanted = [(item["Name"][4:], value) for value in item["Values"]]
        groups = [g for g in groups if any((t["Key"], t["Value"]) in wanted for t in g["Tags"])]
    return ActionResult({"PlacementGroups": groups})


def _delete_placement_group(self: Any) -> Any:
    self.error_on_dryrun()
    name = self._get_param("GroupName")
    if any(i.placement.group_name == name and i._state.name != "terminated" for i in self.ec2_backend.all_instances()):
        raise Refusal("InvalidPlacementGroup.InUse", f"The placement group '{name}' is in use and may not be deleted.")
    if WORLD.placement_groups.pop(name, None) is None:
        raise Refusal("InvalidPlacementGroup.Unknown", f"The Placement Group '{name}' is unknown.")
    return ActionResult({})


def _describe_spot_price_history(self: Any) -> Any:
    now = datetime.now(timezone.utc).replace(microsecond=0)
    zones = [f"{self.region}{letter}" for letter in "abc"]
    rows = [
        {
            "AvailabilityZone": zone,
            "InstanceType": name,
            "ProductDescription": "Linux/UNIX",
            "SpotPrice": f"{WORLD.spot_prices[name] * (1 + number / 10):.6f}",
            "Timestamp": now,
        }
        for name in self._get_param("InstanceTypes", [])
        if name in WORLD.spot_prices
        for number, zone in enumerate(zones)
    ]
    return ActionResult({"SpotPriceHistory": rows, "NextToken": ""})


def _console(self: Any) -> Any:
    instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
    self.error_on_dryrun()
    text = WORLD.consoles(instance.id)[-65536:] if WORLD.consoles else ""
    output = base64.b64encode(text.encode()).decode()
    return ActionResult({"InstanceId": instance.id, "Timestamp": datetime.now(timezone.utc), "Output": output})


EC2Response.get_console_output = _console
EC2Response.create_placement_group = _create_placement_group
EC2Response.describe_placement_groups = _describe_placement_groups
EC2Response.delete_placement_group = _delete_placement_group
EC2Response.describe_spot_price_history = _describe_spot_price_history
if hasattr(core_responses.method_names_from_class, "cache_clear"):
    core_responses.method_names_from_class.cache_clear()
