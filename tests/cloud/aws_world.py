"""The state of the stand-in for AWS that tests set: delays, capacity, quotas, throttles, faults; and what was called."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

UNLIMITED = 10**9


class Refusal(Exception):
    """An answer with AWS's own code and HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


@dataclass
class Fault:
    """Applies to calls of `action` ("*" = all) whose body contains `match`, `times` times (None = until removed).
    `effect`: "error" (code, message, status), "lost" (done, then HTTP 500), "reset" (done, then the line breaks),
    "cut" (the line breaks before anything is done), "delay" (answers after `seconds`),
    "garbled" (done, and the answer breaks off in its middle)."""

    action: str
    effect: str = "error"
    code: str = "InternalError"
    message: str = "An internal error has occurred"
    status: int = 500
    times: int | None = 1
    match: str = ""
    seconds: float = 0.0
    until: float | None = None  # by the world's clock


@dataclass
class World:
    clock: Callable[[], float] = time.monotonic  # of all its delays, rates and faults
    boot_seconds: float = 0.0  # pending -> running
    end_seconds: float = 0.0  # shutting-down -> terminated
    stillborn: str = ""  # a StateReason: launches are accepted, and their instances end at once for that reason
    stillborn_after: float = 0.0  # seconds for which they are pending before that
    volume_seconds: float = 0.0  # what creating, attaching or detaching a volume takes
    visible_after: float = 0.0  # DescribeInstances shows an instance so long after its launch
    capacity: dict[str, int] = field(default_factory=dict)  # "type/zone/market", "*" in any place -> instances left
    vcpu_quota: dict[str, int] = field(default_factory=dict)  # market -> vCPUs left
    quotas: dict[str, float] = field(default_factory=dict)  # quota code -> value, for Service Quotas
    keys: dict[str, Any] = field(default_factory=dict)  # access key id -> aws_identity.Principal
    sessions: dict[str, Any] = field(default_factory=dict)  # instance -> (key id, principal, made at): its role's keys
    session_seconds: float = 6 * 3600.0  # what a role's keys are good for
    clock_offset: float = 0.0  # AWS's clock is so many seconds before this host's
    iam_delay: float = 0.0  # EC2 knows an instance profile so long after IAM made it
    profiles_known: dict[str, float] = field(default_factory=dict)  # instance profile -> monotonic time
    called_by: list[tuple[str, str]] = field(default_factory=list)  # (ARN of the caller, action), of known callers
    spot_role: bool = False  # whether the account has EC2's own role for spot instances
    denied: set[str] = field(default_factory=set)  # IAM actions that these credentials lack
    allowed: set[str] | None = None  # IAM actions that they have; None = all
    rates: dict[str, list[float]] = field(default_factory=dict)  # action or "*" -> [burst, per second, level, at]
    faults: list[Fault] = field(default_factory=list)
    parameters: dict[str, str] = field(default_factory=dict)  # SSM
    sells: Callable[[str, str], bool] = lambda name, zone: True
    image_disks: dict[str, dict[str, int]] = field(default_factory=dict)  # image -> device -> GiB, of those that differ
    spot_prices: dict[str, float] = field(default_factory=dict)  # instance type -> $/h
    prices: dict[str, float] = field(default_factory=dict)  # instance type -> $/h on demand
    lapsed: bool = False  # the credentials have expired
    closed_regions: set[str] = field(default_factory=set)  # that the account has not enabled
    tells_regions: bool = True  # whether DescribeRegions says so
    page_size: int = 1000  # DescribeInstances answers no more reservations than this at once
    calls: list[tuple[float, str, dict[str, Any]]] = field(default_factory=list)  # (monotonic, action, parameters)
    violations: list[str] = field(default_factory=list)  # requests that botocore's own model does not allow
    placement_groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)  # launches by (region, ClientToken)
    disks: Any = None  # what gives volumes to machines: aws_volumes.Disks
    consoles: Callable[[str], str] | None = None  # what an instance's machine wrote to its console
    listeners: list[Callable[[str, Any], None]] = field(default_factory=list)  # told of each state of an instance
    lock: threading.RLock = field(default_factory=threading.RLock)

    def actions(self, since: int = 0) -> list[str]:
        return [action for _, action, _ in self.calls[since:]]

    def actions_by(self, name: str) -> list[str]:
        """Of callers whose ARN contains `name`."""
        return [action for arn, action in self.called_by if name in arn]

    def limit(self, action: str, burst: float, per_second: float) -> None:
        self.rates[action] = [burst, per_second, burst, self.clock()]

    def check_rate(self, action: str) -> None:
        with self.lock:
            for name in (action, "*"):
                bucket = self.rates.get(name)
                if bucket is None:
                    continue
                now = self.clock()
                bucket[2] = min(bucket[0], bucket[2] + (now - bucket[3]) * bucket[1])
                bucket[3] = now
                if bucket[2] < 1:
                    raise Refusal("RequestLimitExceeded", "Request limit exceeded.", 503)
                bucket[2] -= 1

    def fault_for(self, action: str, body: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.action not in (action, "*") or fault.match not in body:
                    continue
                if fault.until is not None and self.clock() > fault.until:
                    continue
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times <= 0:
                        self.faults.remove(fault)
                return fault
        return None

    # ------------------------------------------------------------ capacity

    def free(self, instance_type: str, zone: str, market: str) -> int:
        key = self._pool(instance_type, zone, market)
        return self.capacity[key] if key else UNLIMITED

    def take(self, instance_type: str, zone: str, market: str, vcpus: int, least: int, most: int) -> int:
        """How many of `most` instances are launched; raises Refusal for fewer than `least`."""
        with self.lock:
            quota = self.vcpu_quota.get(market)
            if quota is not None and vcpus * most > quota:
                if market == "spot":
                    raise Refusal("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
                raise Refusal(
                    "VcpuLimitExceeded",
                    f"You have requested more vCPU capacity than your current vCPU limit of {quota} allows for the instance "
                    "bucket that the specified instance type belongs to. Please visit "
                    "http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit.",
                )
            count = min(most, self.free(instance_type, zone, market))
            if count < least:
                raise Refusal(
                    "InsufficientInstanceCapacity",
                    f"We currently do not have sufficient {instance_type} capacity in the Availability Zone you requested "
                    f"({zone}). Our system will be working on provisioning additional capacity.",
                    500,
                )
            self._count(instance_type, zone, market, vcpus, -count)
            return count

    def give_back(self, instance_type: str, zone: str, market: str, vcpus: int, count: int = 1) -> None:
        with self.lock:
            self._count(instance_type, zone, market, vcpus, count)

    def _count(self, instance_type: str, zone: str, market: str, vcpus: int, change: int) -> None:
        key = self._pool(instance_type, zone, market)
        if key:
            self.capacity[key] += change
        if market in self.vcpu_quota:
            self.vcpu_quota[market] += change * vcpus

    def _pool(self, instance_type: str, zone: str, market: str) -> str:
        wanted = (instance_type, zone, market)
        for key in self.capacity:
            if all(part in ("*", value) for part, value in zip(key.split("/"), wanted, strict=True)):
                return key
        return ""
