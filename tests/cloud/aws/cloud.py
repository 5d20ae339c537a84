"""A stand-in for AWS in this process: moto over real HTTP, behind a front that checks, throttles and fails.

    with AwsCloud() as cloud:
        cloud.world.capacity["*/us-east-1a/spot"] = 0
        client = cloud.client("ec2")

moto keeps its state per process, so there is one cloud at a time; each starts empty.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import boto3
from moto.backends import get_backend

from tests.cloud.aws import moto as aws_moto
from tests.cloud.aws import power as aws_power  # noqa: F401  which patches moto
from tests.cloud.aws.front import Front
from tests.cloud.aws.identity import ACCOUNT, Principal, iam
from tests.cloud.aws.moto import WORLD, ec2_backends
from tests.cloud.aws.world import World
from tests.cloud.wire import Listeners
from tests.cloud.world import Fault

REGION = "us-east-1"
SSM = {
    "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id": "ami-0ubuntu2404amd0001",
    "/aws/service/canonical/ubuntu/server/24.04/stable/current/arm64/hvm/ebs-gp3/ami-id": "ami-0ubuntu2404arm0001",
    "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id": "ami-0deeplearning00001",
    "/aws/service/deeplearning/ami/arm64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id": "ami-0deeplearningarm01",
}
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
}


class AwsCloud:
    def __init__(self, vpc_cidr: str = "", public: bool = False) -> None:
        """`vpc_cidr`: a VPC of its own with that network, one subnet (a /24) in each zone, instead of the default.
        `public`: its subnets give each instance a public address."""
        self.world = WORLD
        self.reset()
        self._listeners = Listeners(Front(), self.world, "aws")
        self.url = self.listen("127.0.0.1")
        self.vpc = self._make_vpc(vpc_cidr, public) if vpc_cidr else ""
        self.world.calls.clear()

    def __enter__(self) -> AwsCloud:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Whoever used it must have made requests that AWS's own model allows, and no other."""
        broken = [*self.world.violations]
        self.close()
        assert kind is not None or not broken, broken

    def close(self) -> None:
        self.world.listeners.clear()
        self._listeners.close()
        self.reset()

    def listen(self, address: str) -> str:
        """At one more address of this host. Returns the URL."""
        return self._listeners.listen(address)

    def client(self, service: str = "ec2") -> Any:
        """An administrator's view: its calls are in the log like everybody's."""
        return boto3.client(
            service, region_name=REGION, endpoint_url=self.url, aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )  # fmt: skip

    def add_user(self, name: str, *policies: dict[str, Any], expires: float = float("inf")) -> dict[str, str]:
        """The environment with keys of a user who may what `policies` say (without any: everything), until the wall
        clock's `expires`."""
        key, secret = f"AKIA{secrets.token_hex(8).upper()}", secrets.token_hex(20)
        may = (lambda: list(policies)) if policies else None
        self.world.keys[key] = Principal(f"arn:aws:iam::{ACCOUNT}:user/{name}", secret, "", may, expires)
        return {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}

    def fault(self, action: str, effect: str = "error", **more: Any) -> Fault:
        fault = Fault(action, effect, **more)
        self.world.faults.append(fault)
        return fault

    def interrupt(self, instance_id: str) -> None:
        aws_moto.interrupt(REGION, instance_id)

    # ------------------------------------------------------------ the truth, which no delay hides

    def instances(self, *states: str) -> list[Any]:
        """moto's instances; by default those that cost money."""
        aws_moto.advance(REGION)
        wanted = states or ("pending", "running", "shutting-down", "stopping", "stopped")
        return [i for i in self._backend.all_instances() if i._state.name in wanted]

    def leftovers(self) -> list[str]:
        """Ids of all that someone made here and did not remove."""
        alive = [i.id for i in self.instances()]  # first: this moves time on
        groups = [g.id for by_vpc in self._backend.groups.values() for g in by_vpc.values() if g.name != "default"]
        keys = list(self._backend.key_pairs)
        volumes = [v.id for v in self._backend.volumes.values()]
        roles = [role.name for role in iam().roles.values()]
        profiles = [profile.name for profile in iam().instance_profiles.values()]
        policies = [policy.arn for policy in iam().managed_policies.values() if ACCOUNT in policy.arn]
        named = [*self.world.placement_groups, *profiles, *roles, *policies]
        return [*alive, *groups, *keys, *volumes, *named]

    def tags(self, resource_id: str) -> dict[str, str]:
        return dict(self._backend.tags.get(resource_id, {}))

    @property
    def _backend(self) -> Any:
        return ec2_backends[ACCOUNT][REGION]

    def reset(self) -> None:
        """An account as new."""
        for service in ("ec2", "iam", "ssm", "sts"):
            get_backend(service).reset()
        aws_moto.forget()
        fresh = World()
        for field in fields(World):
            if field.name != "lock":
                setattr(WORLD, field.name, getattr(fresh, field.name))
        WORLD.parameters.update(SSM)
        admin = Principal(f"arn:aws:iam::{ACCOUNT}:user/admin", CREDENTIALS["AWS_SECRET_ACCESS_KEY"])
        WORLD.keys[CREDENTIALS["AWS_ACCESS_KEY_ID"]] = admin

    def _make_vpc(self, cidr: str, public: bool) -> str:
        ec2 = self.client()
        vpc = ec2.create_vpc(CidrBlock=cidr)["Vpc"]["VpcId"]
        first, second, _ = cidr.split(".", 2)
        for number, letter in enumerate("abc", 1):
            block = f"{first}.{second}.{number}.0/24"
            made = ec2.create_subnet(VpcId=vpc, CidrBlock=block, AvailabilityZone=f"{REGION}{letter}")
            subnet = made["Subnet"]["SubnetId"]
            ec2.modify_subnet_attribute(SubnetId=subnet, MapPublicIpOnLaunch={"Value": public})
        return str(vpc)


@contextlib.contextmanager
def credentials() -> Iterator[None]:
    """The keys of the stand-in, and no other way to credentials (a machine in a real cloud has some)."""
    ours = {
        **CREDENTIALS,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    }
    others = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION")
    before = {name: os.environ.pop(name, None) for name in (*ours, *others)}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
