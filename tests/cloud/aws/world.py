"""What is AWS's own in the state of its stand-in, and AWS's words for a refusal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.cloud import world


class Refusal(Exception):
    """An answer with AWS's own code and HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


@dataclass
class World(world.World):
    stillborn: str = ""  # a StateReason: launches are accepted, and their instances end at once for that reason
    stillborn_after: float = 0.0  # seconds for which they are pending before that
    quotas: dict[str, float] = field(default_factory=dict)  # quota code -> value, for Service Quotas
    keys: dict[str, Any] = field(default_factory=dict)  # access key id -> aws_identity.Principal
    sessions: dict[str, Any] = field(default_factory=dict)  # instance -> (key id, principal, made at): its role's keys
    session_seconds: float = 6 * 3600.0  # what a role's keys are good for
    iam_delay: float = 0.0  # EC2 knows an instance profile so long after IAM made it
    profiles_known: dict[str, float] = field(default_factory=dict)  # instance profile -> monotonic time
    spot_role: bool = False  # whether the account has EC2's own role for spot instances
    parameters: dict[str, str] = field(default_factory=dict)  # SSM
    image_disks: dict[str, dict[str, int]] = field(default_factory=dict)  # image -> device -> GiB, of those that differ
    closed_regions: set[str] = field(default_factory=set)  # that the account has not enabled
    tells_regions: bool = True  # whether DescribeRegions says so
    placement_groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)  # launches by (region, ClientToken)

    def no_capacity(self, instance_type: str, zone: str) -> Refusal:
        return Refusal(
            "InsufficientInstanceCapacity",
            f"We currently do not have sufficient {instance_type} capacity in the Availability Zone you requested "
            f"({zone}). Our system will be working on provisioning additional capacity.",
            500,
        )

    def over_quota(self, market: str, left: int) -> Refusal:
        if market == "spot":
            return Refusal("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
        return Refusal(
            "VcpuLimitExceeded",
            f"You have requested more vCPU capacity than your current vCPU limit of {left} allows for the instance "
            "bucket that the specified instance type belongs to. Please visit "
            "http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit.",
        )

    def too_many_calls(self) -> Refusal:
        return Refusal("RequestLimitExceeded", "Request limit exceeded.", 503)
