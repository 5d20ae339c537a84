"""What a cluster needs around its instances: subnets that exist, and a security group, key pair and placement groups
of its own, tagged with its uid and removed by `sweep`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clusterctl.core.errors import BadRequest
from clusterctl_providers.aws.calls import Calls
from clusterctl_providers.aws.errors import code_behind
from clusterctl_providers.base import TAG_CLUSTER, TAG_DISK, TAG_UID, HeadMachine
from clusterctl_providers.cloud import addresses
from clusterctl_providers.cloud.keys import is_here, is_same, public_key
from clusterctl_providers.cloud.lately import Lately
from clusterctl_providers.cloud.naming import made_name
from clusterctl_providers.cloud.removal import removed

SUBNETS_LAST = 600.0  # seconds
_UNKNOWN = {  # what AWS does not know, by its error code
    "InvalidGroup.NotFound": "group",
    "InvalidSecurityGroupID.NotFound": "group",
    "InvalidKeyPair.NotFound": "key",
    "InvalidPlacementGroup.Unknown": "placement",
    "InvalidSubnetID.NotFound": "subnets",
}
FULL = "InsufficientFreeAddressesInSubnet"
_IN_USE = ("DependencyViolation", "InvalidPlacementGroup.InUse", "VolumeInUse")
LONGEST_NAME = 255  # of groups and keys
WHO_AM_I = "https://checkip.amazonaws.com"


class Network:
    def __init__(
        self,
        calls: Calls,
        settings: Mapping[str, Any],
        auth: Mapping[str, Any],
        cluster: str,
        uid: str,
        ssh_from: Sequence[str] | None = None,
        head: HeadMachine | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._calls, self._settings, self._auth = calls, settings, auth
        self._cluster, self._uid = cluster, uid
        self._clock, self._pause = clock, pause
        self._ssh_from = ssh_from  # None: who may reach port 22 is not for us to say
        self._head = head  # None: nor who reaches the head's
        self._vpc = ""
        self._subnets: dict[str, str] = {}
        self._subnets_until = 0.0
        self._group = ""
        self._key: str | None = None
        self._placement: set[str] = set()
        self._lately = Lately(lambda: self._clock())
        self._lock = threading.RLock()

    @property
    def name(self) -> str:
        """Names of what is made: the cluster's and enough of its uid to be the only one."""
        return made_name(self._cluster, self._uid, longest=LONGEST_NAME)

    def tags(self, kind: str, **more: str) -> list[dict[str, Any]]:
        """TagSpecifications for something new; the user's tags never replace ours."""
        pairs = {**dict(self._settings.get("tags") or {}), "Name": self.name, **more}
        pairs |= {TAG_CLUSTER: self._cluster, TAG_UID: self._uid}
        return [{"ResourceType": kind, "Tags": [{"Key": k, "Value": v} for k, v in pairs.items()]}]

    # ------------------------------------------------------------ what exists

    def subnets(self) -> dict[str, str]:
        """Zone -> subnet. Where a zone has several: AWS's default one, then that with the most free addresses; one that
        is full comes last."""
        with self._lock:
            if self._clock() >= self._subnets_until:
                self._subnets = self._read_subnets()
                self._lately.look("subnets")
                self._subnets_until = self._clock() + SUBNETS_LAST
            return dict(self._subnets)

    def _read_subnets(self) -> dict[str, str]:
        named = list(self._settings.get("subnets") or [])
        vpc = str(self._settings.get("vpc") or "default")
        what = f"listing the subnets of {', '.join(named) or f'VPC {vpc}'} in {self._calls.region}"
        if named:
            pages = self._calls.pages("ec2", "describe_subnets", what, SubnetIds=named)
        else:
            filters = [{"Name": "vpc-id", "Values": [self._vpc_id(vpc)]}]
            pages = self._calls.pages("ec2", "describe_subnets", what, Filters=filters)
        found = [subnet for page in pages for subnet in page["Subnets"]]
        if not found:
            raise BadRequest(f"{what}: there is none; name some under `provider: {{aws: {{subnets: [...]}}}}`")
        found = _with_ipv4(found, what, named)
        self._vpc = found[0]["VpcId"]
        found.sort(key=_preference)
        subnets: dict[str, str] = {}
        for subnet in found:
            subnets.setdefault(subnet["AvailabilityZone"], subnet["SubnetId"])
        return dict(sorted(subnets.items()))

    def _vpc_id(self, wanted: str) -> str:
        if wanted != "default":
            return wanted
        what = f"looking for the default VPC in {self._calls.region}"
        filters = [{"Name": "is-default", "Values": ["true"]}]
        vpcs = self._calls.read("ec2", "describe_vpcs", what, Filters=filters)["Vpcs"]
        if not vpcs:
            raise BadRequest(
                f"{what}: this account has none; make it (`aws ec2 create-default-vpc`), or name "
                "another under `provider: {aws: {vpc: vpc-...}}`"
            )
        return str(vpcs[0]["VpcId"])

    # ------------------------------------------------------------ what is made

    def security_groups(self) -> list[str]:
        """The user's, else the cluster's own: all traffic among its nodes, SSH from `ssh_from`, the head's port from where it is
        opened to, nothing else inward."""
        given = list(self._settings.get("security_groups") or [])
        with self._lock:
            if not given and not self._group:
                self._lately.look("group")
                self._group = self._find_group() or self._make_group()
            return given or [self._group]

    def _find_group(self) -> str:
        what = f"looking for the security group of cluster {self._cluster}"
        found = self._calls.read("ec2", "describe_security_groups", what, Filters=self._mine())["SecurityGroups"]
        return self._open_group(found[0]) if found else ""

    def _make_group(self) -> str:
        self.subnets()
        what = f"making the security group {self.name} in {self._vpc}"
        try:
            made = self._calls.call(
                "ec2", "create_security_group", what,
                GroupName=self.name, Description=f"nodes of the clusterctl cluster {self._cluster}", VpcId=self._vpc,
                TagSpecifications=self.tags("security-group"),
            )  # fmt: skip
            self._lately.make("group")
        except BadRequest as error:
            if code_behind(error) != "InvalidGroup.Duplicate":
                raise
            filters = [{"Name": "group-name", "Values": [self.name]}, *self._mine()]  # another process was faster
            found = self._calls.read("ec2", "describe_security_groups", what, Filters=filters)["SecurityGroups"]
            if not found:
                raise
            made = found[0]
        return self._open_group(made)

    def _open_group(self, found: Mapping[str, Any]) -> str:
        """Adds the rules that are missing: the process that made the group may have died before it was opened. A head
        finds them all, and needs no right to add any."""
        group = str(found["GroupId"])
        inward, outward = found.get("IpPermissions") or [], found.get("IpPermissionsEgress") or []
        inside = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}
        if not _has_inside(inward, group):
            self._allow("authorize_security_group_ingress", group, [inside])
        if not _has_inside(outward, group):
            self._allow("authorize_security_group_egress", group, [inside])  # EFA wants it beside the rule for all
        if self._ssh_from is not None:
            words = [str(word) for word in self._ssh_from]
            self._open(group, 22, addresses.ssh_sources(words, own_address, self._own_networks), inward)
        if self._head is not None and self._head.port:
            self._open(group, self._head.port, set(self._head.open_to), inward)
        return group

    def _open(self, group: str, port: int, wanted: set[str], inward: Sequence[Mapping[str, Any]]) -> None:
        """The port is open to `wanted` and to nobody else: not to where this machine was yesterday."""
        found = _sources(inward, port)
        for source in sorted(wanted - found):
            self._allow("authorize_security_group_ingress", group, [_rule(source, port)])
        closed = sorted(found - wanted)
        if closed:
            what = f"closing port {port} of the security group {group} to {', '.join(closed)}"
            try:
                self._calls.call(
                    "ec2", "revoke_security_group_ingress", what,
                    GroupId=group, IpPermissions=[_rule(source, port) for source in closed],
                )  # fmt: skip
            except BadRequest as error:
                if code_behind(error) != "InvalidPermission.NotFound":
                    raise

    def _own_networks(self) -> list[str]:
        """CIDRs of the VPC."""
        self.subnets()
        what = f"looking for the networks of {self._vpc}"
        (vpc,) = self._calls.read("ec2", "describe_vpcs", what, VpcIds=[self._vpc])["Vpcs"]
        rows = [r for r in vpc.get("CidrBlockAssociationSet") or () if r["CidrBlockState"]["State"] == "associated"]
        rows6 = vpc.get("Ipv6CidrBlockAssociationSet") or ()
        own = [r["CidrBlock"] for r in rows] or [vpc["CidrBlock"]]
        return [*own, *(r["Ipv6CidrBlock"] for r in rows6 if r["Ipv6CidrBlockState"]["State"] == "associated")]

    def _allow(self, operation: str, group: str, rules: list[dict[str, Any]]) -> None:
        what = f"opening the security group {group}"
        while True:
            try:
                self._calls.call("ec2", operation, what, GroupId=group, IpPermissions=rules)
                return
            except BadRequest as error:
                code = code_behind(error)
                if code == "InvalidPermission.Duplicate":
                    return
                if not self.made_lately(code):
                    raise
            self._pause(0.5)

    def key_name(self) -> str:
        """The cluster's key pair, imported from the public half of `auth.key`; "" when the spec names no key."""
        with self._lock:
            if self._key is None:
                path = str(self._auth.get("key") or "")
                self._lately.look("key")
                self._key = self._import_key(Path(path).expanduser()) if path else ""
            return self._key

    def _import_key(self, path: Path) -> str:
        known = self._key_pairs()
        if known and not is_here(path):
            return known[0]["KeyName"]  # on the head, which launches with it and has no key itself
        public = public_key(path, "EC2")
        for pair in known:
            if is_same(pair.get("PublicKey", ""), public):
                return pair["KeyName"]
            self._remove("delete_key_pair", f"the key pair {pair['KeyName']} of a former key", KeyName=pair["KeyName"])
        what = f"importing the public key of {path} as {self.name}"
        try:
            self._calls.call(
                "ec2", "import_key_pair", what,
                KeyName=self.name, PublicKeyMaterial=public, TagSpecifications=self.tags("key-pair"),
            )  # fmt: skip
            self._lately.make("key")
        except BadRequest as error:
            if code_behind(error) != "InvalidKeyPair.Duplicate":
                raise
        return self.name

    def placement_group(self, pool: str, zone: str) -> str:
        """Nodes of a pool with `one_zone` sit close together, for its gangs."""
        name = made_name(self._cluster, self._uid, pool, zone, longest=LONGEST_NAME)
        with self._lock:
            if name not in self._placement:
                self._lately.look("placement")
                try:
                    self._calls.call(
                        "ec2", "create_placement_group", f"making the placement group {name}",
                        GroupName=name, Strategy="cluster", TagSpecifications=self.tags("placement-group"),
                    )  # fmt: skip
                    self._lately.make("placement")
                except BadRequest as error:
                    if code_behind(error) != "InvalidPlacementGroup.Duplicate":
                        raise
                self._placement.add(name)
            return name

    # ------------------------------------------------------------ what AWS does not know

    def made_lately(self, code: str) -> bool:
        """Whether AWS, which answered `code`, just does not know yet what we made a moment ago."""
        return self._lately.is_made(_UNKNOWN.get(code, ""))

    def forget(self, code: str) -> bool:
        """AWS no longer knows something that is remembered here (somebody deleted it), or a subnet is full: the next
        launch looks anew, and makes what is missing. False where that would not help: it was looked for a moment ago."""
        kind = "subnets" if code == FULL else _UNKNOWN.get(code, "")
        with self._lock:
            if not self._lately.is_worth_a_look(kind):
                return False
            if kind == "group":
                self._group = ""
            elif kind == "key":
                self._key = None
            elif kind == "placement":
                self._placement.clear()
            elif kind == "subnets":
                self._subnets_until = 0.0
            return True

    # ------------------------------------------------------------ and removed

    def sweep(self) -> list[str]:
        """Removes what was made for this cluster beside instances. Returns a sentence for each thing that has to wait
        (an instance that has just ended holds its network card for some seconds)."""
        with self._lock:
            waiting: list[str] = []
            for volume in self._volumes():
                waiting += self._remove("delete_volume", f"the volume {volume}", VolumeId=volume)
            for group in self._placement_groups():
                waiting += self._remove("delete_placement_group", f"the placement group {group}", GroupName=group)
            for key in self._keys():
                waiting += self._remove("delete_key_pair", f"the key pair {key}", KeyName=key)
            what = f"looking for security groups of cluster {self._cluster}"
            groups = self._calls.read("ec2", "describe_security_groups", what, Filters=self._mine())["SecurityGroups"]
            for group in groups:
                name = group["GroupId"]
                waiting += self._remove("delete_security_group", f"the security group {name}", GroupId=name)
            self._group, self._key = "", None
            self._placement.clear()
            return waiting

    def _volumes(self) -> list[str]:
        """Data volumes that outlived their instance; those in use go with it, but for the head's, which is waited for."""
        what = f"looking for volumes of cluster {self._cluster}"
        rows = [
            r
            for page in self._calls.pages("ec2", "describe_volumes", what, Filters=self._mine())
            for r in page["Volumes"]
        ]
        return [
            row["VolumeId"]
            for row in rows
            if row["State"] == "available" or TAG_DISK in {tag["Key"] for tag in row.get("Tags") or ()}
        ]

    def _placement_groups(self) -> list[str]:
        what = f"looking for placement groups of cluster {self._cluster}"
        found = self._calls.read("ec2", "describe_placement_groups", what, Filters=self._mine())
        return [group["GroupName"] for group in found["PlacementGroups"] if group.get("State") != "deleting"]

    def _keys(self) -> list[str]:
        return [pair["KeyName"] for pair in self._key_pairs()]

    def _key_pairs(self) -> list[Any]:
        what = f"looking for key pairs of cluster {self._cluster}"
        return self._calls.read("ec2", "describe_key_pairs", what, Filters=self._mine(), IncludePublicKey=True)[
            "KeyPairs"
        ]

    def _remove(self, operation: str, thing: str, **parameters: Any) -> list[str]:
        return removed(
            lambda: self._calls.call("ec2", operation, f"removing {thing}", **parameters), thing,
            lambda error: code_behind(error).endswith(("NotFound", ".Unknown")), lambda error: code_behind(error) in _IN_USE,
        )  # fmt: skip

    def clusters(self) -> list[tuple[str, str]]:
        """(cluster, uid) of everything but instances in this region that carries a uid."""
        filters = [{"Name": "tag-key", "Values": [TAG_UID]}]
        what = f"looking for clusters in {self._calls.region}"
        rows = self._calls.read("ec2", "describe_security_groups", what, Filters=filters)["SecurityGroups"]
        rows = rows + self._calls.read("ec2", "describe_key_pairs", what, Filters=filters)["KeyPairs"]
        rows = rows + self._calls.read("ec2", "describe_placement_groups", what, Filters=filters)["PlacementGroups"]
        for page in self._calls.pages("ec2", "describe_volumes", what, Filters=filters):
            rows = rows + page["Volumes"]
        tags = [{tag["Key"]: tag["Value"] for tag in row.get("Tags") or ()} for row in rows]
        return sorted({(found.get(TAG_CLUSTER, ""), found[TAG_UID]) for found in tags if TAG_UID in found})

    def _mine(self) -> list[dict[str, Any]]:
        return [{"Name": f"tag:{TAG_UID}", "Values": [self._uid]}]


def _preference(subnet: Mapping[str, Any]) -> tuple[Any, ...]:
    free = int(subnet.get("AvailableIpAddressCount") or 0)
    return (free <= 0, not subnet.get("DefaultForAz"), -free, subnet["SubnetId"])


def _with_ipv4(found: Sequence[Any], what: str, named: Sequence[str]) -> list[Any]:
    """Nodes reach each other at IPv4 addresses. Raises BadRequest for subnets that were named and have none."""
    without = [subnet["SubnetId"] for subnet in found if subnet.get("Ipv6Native")]
    if without and (named or len(without) == len(found)):
        verb = "has" if len(without) == 1 else "have"
        raise BadRequest(
            f"{what}: {', '.join(without)} {verb} IPv6 addresses only, and nodes need an IPv4 one: name others under "
            "`provider: {aws: {subnets: [...]}}`"
        )
    return [subnet for subnet in found if not subnet.get("Ipv6Native")]


def _has_inside(rules: Sequence[Mapping[str, Any]], group: str) -> bool:
    """All traffic among the group's own members."""
    own = [pair["GroupId"] for rule in rules if rule["IpProtocol"] == "-1" for pair in rule.get("UserIdGroupPairs", [])]
    return group in own


def _sources(rules: Sequence[Mapping[str, Any]], port: int) -> set[str]:
    """CIDRs of either kind."""
    mine = [rule for rule in rules if (rule.get("FromPort"), rule.get("ToPort")) == (port, port)]
    ranges = [source["CidrIp"] for rule in mine for source in rule.get("IpRanges") or ()]
    return {*ranges, *(source["CidrIpv6"] for rule in mine for source in rule.get("Ipv6Ranges") or ())}


def _rule(source: str, port: int) -> dict[str, Any]:
    ranges = {"Ipv6Ranges": [{"CidrIpv6": source}]} if ":" in source else {"IpRanges": [{"CidrIp": source}]}
    return {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, **ranges}


def own_address() -> str:
    """The public address from which this machine reaches AWS."""
    return addresses.own_address(WHO_AM_I, "provider: {aws: {ssh_from: [...]}}")
