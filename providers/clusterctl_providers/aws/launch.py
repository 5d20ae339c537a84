"""RunInstances: what a launch of many like nodes asks of EC2, and what it answers (`cloud.launch.LaunchCalls`)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from clusterctl_runtime.backoff import Backoff

from clusterctl.core.errors import BadRequest, NoCapacity, NotYet, ProviderError, QuotaExceeded
from clusterctl.core.model import Instance
from clusterctl_providers.aws.calls import Calls
from clusterctl_providers.aws.efa import efa_interfaces
from clusterctl_providers.aws.errors import code_behind
from clusterctl_providers.aws.head import head_interface
from clusterctl_providers.aws.identity import Identity, is_unseen
from clusterctl_providers.aws.images import GIB, Image, Images
from clusterctl_providers.aws.instances import InstanceRows
from clusterctl_providers.aws.network import FULL, Network
from clusterctl_providers.aws.quotas import PAGE, quota_of
from clusterctl_providers.aws.reservations import CAPACITY_BLOCK, MARKETS, reservation_parameters
from clusterctl_providers.base import (
    CreateRequest,
    CreateResult,
    HeadMachine,
    PoolRequest,
)
from clusterctl_providers.catalog import InstanceType, instance_types
from clusterctl_providers.cloud.batches import Batch, Member, names_of, nodes_tag, shared_bootstrap
from clusterctl_providers.cloud.boot import user_data
from clusterctl_providers.cloud.launch import AlreadyBegun, is_gang
from clusterctl_providers.cloud.listing import SETTLES, Listing
from clusterctl_providers.cloud.quotas import Quotas
from clusterctl_providers.cloud.reservations import RESERVED, Reservations
from clusterctl_providers.cloud.tags import launch_tags
from clusterctl_providers.this_machine import maker

log = logging.getLogger(__name__)

DISK = 30 * GIB
GPU_DISK = 100 * GIB  # the deep-learning image alone has more than 50
NO_DRIVER = ("V100",)  # GPUs before those that NVIDIA's open driver knows
MOST_NODES = 50  # in one call: their join tokens must fit into the user data
LONGEST_TAG = 256
MOST_USER_DATA = 16 * 1024  # bytes


class Ec2Launches:
    cloud = "AWS"
    each_alone = False

    def __init__(
        self,
        calls: Calls,
        settings: Mapping[str, Any],
        network: Network,
        identity: Identity,
        images: Images,
        quotas: Quotas,
        rows: InstanceRows,
        listing: Listing,
        reservations: Reservations,
        head_machine: HeadMachine | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock, self._pause = clock, pause
        self._calls, self._settings = calls, settings
        self._network, self._identity, self._images, self._quotas = network, identity, images, quotas
        self._rows, self._listing, self._reservations = rows, listing, reservations
        self._head_machine = head_machine
        self._types: dict[str, InstanceType] = {}
        self._cards: dict[str, dict[str, Any]] = {}  # type -> NetworkInfo

    # ------------------------------------------------------------ calls

    def fits(self, members: Sequence[Member]) -> bool:
        return len(members) <= MOST_NODES and len(nodes_tag(members)) <= LONGEST_TAG

    def concerns_all(self, error: ProviderError) -> bool:
        """Quotas and a subnet's addresses are all or nothing in a call."""
        return isinstance(error, QuotaExceeded) or code_behind(error) == FULL

    def title(self, batch: Batch, call: Mapping[str, Any]) -> str:
        return f"launching {names_of(batch)} ({call['InstanceType']}, {_market(call)}) in {self._calls.region}"

    def make(self, batch: Batch, call: Mapping[str, Any], pool: PoolRequest | None) -> dict[str, CreateResult]:
        quota = quota_of(call["InstanceType"], _market(call)).name
        try:
            answer = self._run_instances(self.title(batch, call), quota, call)
        except ProviderError as error:
            if code_behind(error) == "IdempotentParameterMismatch":
                raise AlreadyBegun(str(error)) from error
            raise self._looked_anew(error, str(pool.spec.get("image") or "") if pool else "") from error.__cause__
        found: dict[str, CreateResult] = {}
        for row in answer["Instances"]:
            index = int(row.get("AmiLaunchIndex") or 0)
            found[batch.node_tokens[index]] = self._listing.remember(self._rows.instance(row, batch.members[index]))
        return found

    def made(self, batch: Batch) -> dict[str, Instance]:
        found = self._rows.by_client_token(batch)
        return {token: self._listing.remember(instance) for token, instance in found.items()}

    def _run_instances(self, what: str, quota: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """EC2 learns of what was just made, here or in IAM, some seconds later than its maker says so: waited for."""
        ours = self._identity.is_ours(str(parameters.get("IamInstanceProfile", {}).get("Name", "")))
        backoff = Backoff(0.5, 5.0, factor=1.5, seconds=SETTLES, clock=self._clock, sleep=self._pause)
        while True:
            try:
                return self._calls.call("ec2", "run_instances", what, quota=quota, **parameters)
            except BadRequest as error:
                awaited = (ours and is_unseen(error)) or self._network.made_lately(code_behind(error))
                if not awaited:
                    raise
                log.info("%s; it is waited for", error)
                if not backoff.wait():
                    raise

    def _looked_anew(self, error: ProviderError, wanted_image: str) -> ProviderError:
        """What was deleted behind our back is looked for, and made again, before the next try: no fault of the spec."""
        code = code_behind(error)
        forgotten = self._network.forget(code) or self._images.forget(code, wanted_image)
        if forgotten and isinstance(error, BadRequest):
            return NotYet(f"looking anew for what AWS does not know any more: {error}", retry_after=1.0)
        return error

    # ------------------------------------------------------------ what a call says

    def beyond(self, requests: Sequence[CreateRequest]) -> dict[str, ProviderError]:
        """What is not free of the reservation, or beyond the quotas; what is reserved is within them."""
        if requests[0].offer.market in MARKETS:
            return self._reservations.beyond(requests)
        offer, count = requests[0].offer, len(requests) if is_gang(requests) else 1
        vcpus = self._type(offer.instance_type).vcpus
        fix = f"ask for more under {PAGE} in the AWS console, or name other instance types"
        quota = quota_of(offer.instance_type, offer.market)
        self._quotas.check(quota, offer.instance_type, vcpus, count, self._calls.region, fix)
        return {}

    def _type(self, name: str) -> InstanceType:
        if not self._types:
            self._types = {machine.name: machine for machine in instance_types("aws")}
        if name not in self._types:
            raise BadRequest(
                f"AWS has no instance type {name!r} that the catalogue knows: name another one in `instances`"
            )
        return self._types[name]

    def call_for(self, batch: Batch, requests: Sequence[CreateRequest]) -> dict[str, Any]:
        request, offer = requests[0], requests[0].offer
        spec, machine = request.pool.spec, self._type(requests[0].offer.instance_type)
        if machine.gpu_name in NO_DRIVER and not spec.get("image"):
            raise BadRequest(
                f"AWS's deep-learning image has no driver for the {machine.gpu_name} of {machine.name}: name an `image` of the "
                "pool that has one"
            )
        image = self._images.find(str(spec.get("image") or ""), machine.arch, machine.gpu_vendor == "nvidia")
        gang = is_gang(requests)
        least = len(requests) if gang else 1
        parameters: dict[str, Any] = {
            "ClientToken": batch.token,
            "ImageId": image.id,
            "InstanceType": machine.name,
            "MinCount": least,
            "MaxCount": len(requests),
            "UserData": self._user_data(requests),
            "InstanceInitiatedShutdownBehavior": "terminate",
            "MetadataOptions": {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1},
            "BlockDeviceMappings": _disks(image, int(spec.get("disk") or 0), machine.gpu_vendor == "nvidia"),
            "TagSpecifications": self._tags(batch, request),
            **self._place(request, machine, gang),
        }
        if offer.market in MARKETS:
            found = self._reservations.of(request)
            parameters |= reservation_parameters(found)
            if found.group:
                parameters["Placement"] = {"GroupName": found.group}
        if offer.market == "spot":
            options = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
            parameters["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": options}
        key = self._network.key_name()
        if key:
            parameters["KeyName"] = key
        profile = self._profile(request.pool.role)
        if profile:
            parameters["IamInstanceProfile"] = {"Arn" if profile.startswith("arn:") else "Name": profile}
        return parameters

    def _profile(self, role: str) -> str:
        """A head's machine launches others, so it needs a role; not where the head daemon runs on the user's own."""
        if role != "head":
            return self._identity.worker_profile()
        given = str(self._settings.get("instance_profile") or "")
        return given if given or self._settings.get("head_address") else self._identity.head_profile()

    def _place(self, request: CreateRequest, machine: InstanceType, gang: bool) -> dict[str, Any]:
        """Subnet, security group, and for gangs of one zone a placement group and the fast network card."""
        zone = request.offer.zone
        subnets = self._network.subnets()
        if zone not in subnets:
            raise NoCapacity(f"zone {zone} has no subnet of this cluster; it has {', '.join(subnets)}")
        groups = self._network.security_groups()
        if request.pool.role == "head" and self._head_machine:
            return head_interface(self._head_machine, request.place, subnets[zone], groups)
        placed: dict[str, Any] = {}
        if gang and request.offer.market != CAPACITY_BLOCK:  # a block's machines sit close together as they are
            placed["Placement"] = {"GroupName": self._network.placement_group(request.pool.name, zone)}
        interfaces = efa_interfaces(self._network_of(machine), subnets[zone], groups) if gang else []
        if not interfaces:
            return {**placed, "SubnetId": subnets[zone], "SecurityGroupIds": groups}
        return {**placed, "NetworkInterfaces": interfaces}

    def _network_of(self, machine: InstanceType) -> dict[str, Any]:
        """What EC2 says of the type's network; asked once."""
        if machine.name not in self._cards:
            what = f"looking up the network cards of {machine.name}"
            found = self._calls.read("ec2", "describe_instance_types", what, InstanceTypes=[machine.name])
            self._cards[machine.name] = (
                found["InstanceTypes"][0].get("NetworkInfo", {}) if found["InstanceTypes"] else {}
            )
        return self._cards[machine.name]

    def _user_data(self, requests: Sequence[CreateRequest]) -> str:
        boot = {**shared_bootstrap(requests[0]), "metadata": "aws", "shutdown": "poweroff"}
        nodes = [(r.node_id, r.generation, str(r.bootstrap.get("join_token", ""))) for r in requests]
        return user_data(boot, nodes, MOST_USER_DATA)

    def _tags(self, batch: Batch, request: CreateRequest) -> list[dict[str, Any]]:
        head_here = request.pool.role == "head" and self._head_machine is not None
        who = maker() if self._settings.get("head_address") else ""
        users = dict(self._settings.get("tags") or {})
        tags = launch_tags(users, batch, request, head_here=head_here, maker=who)
        kinds = ["instance", "volume", "network-interface"]
        if request.offer.market == "spot":
            kinds.append("spot-instances-request")
        tags["Name"] = f"{self._network.name}-{request.pool.name}"
        pairs = [{"Key": key, "Value": value} for key, value in sorted(tags.items())]
        return [{"ResourceType": kind, "Tags": pairs} for kind in kinds]


def _disks(image: Image, wanted: int, nvidia: bool) -> list[dict[str, Any]]:
    """The root disk, of `wanted` bytes or 0 for the usual, and those that the image has beside; all go with the machine."""
    if 0 < wanted < image.size:
        raise BadRequest(
            f"the image {image.id} has a disk of {image.size // GIB} GiB, `disk` of the pool says {wanted / GIB:.3g} GiB: "
            "raise it, or leave it out"
        )
    size = wanted or max(image.size, GPU_DISK if nvidia else DISK)
    ebs = {"VolumeType": "gp3", "VolumeSize": -(-size // GIB), "Encrypted": True, "DeleteOnTermination": True}
    others = [
        {"DeviceName": device, "Ebs": {"VolumeSize": gib, "Encrypted": True, "DeleteOnTermination": True}}
        for device, gib in image.data_disks
    ]
    return [{"DeviceName": image.root_device, "Ebs": ebs}, *others]


def _market(parameters: Mapping[str, Any]) -> str:
    options = parameters.get("InstanceMarketOptions") or {}
    reserved = RESERVED if parameters.get("CapacityReservationSpecification") else "on-demand"
    return str(options.get("MarketType") or reserved)
