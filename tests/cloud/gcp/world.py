"""What is Google Cloud's own in the state of its stand-in, and Google's words for a refusal."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.cloud import world

PROJECT = "clusterctl-test"
PROJECT_NUMBER = "123456789012"
REGION = "us-central1"
TROUBLESHOOTING = "https://cloud.google.com/compute/docs/resource-error"


class Refusal(Exception):
    """An answer with an HTTP status instead of what was asked for. `reason` and `domain` are those of the older format
    (`error.errors`), `status` and `details` those of the newer one."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        domain: str = "global",
        status: str = "",
        details: list[dict[str, Any]] | None = None,
        location: str = "",
    ) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.domain = code, reason, message, domain
        self.status, self.details, self.location = status, details or [], location


class Violation(Refusal):
    """A request that no caller should ever make: it is recorded, and fails the test."""


class Failure(Exception):
    """What goes wrong after a call was accepted: it comes in the operation. `code` is Google's word, `details` its
    errorDetails; `http` and `text` are the status that a call would have had."""

    def __init__(
        self, code: str, message: str, http: int, text: str, details: list[dict[str, Any]] | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.http, self.text, self.details = code, message, http, text, details or []


def not_found(key: str) -> Refusal:
    return Refusal(404, "notFound", f"The resource '{key}' was not found")


def already_exists(key: str) -> Refusal:
    return Refusal(409, "alreadyExists", f"The resource '{key}' already exists")


def invalid(where: str, value: Any, why: str = "") -> Refusal:
    """`where` as Google names it: `resource.disks[0].type`."""
    text = value if isinstance(value, str) else json.dumps(value)
    return Refusal(400, "invalid", f"Invalid value for field '{where}': '{text[:300]}'. {why}".rstrip())


def required(where: str) -> Refusal:
    return Refusal(400, "required", f"Required field '{where}' not specified")


def in_use(key: str, by: str) -> Refusal:
    message = f"The {_noun(key)} resource '{key}' is already being used by '{by}'"
    return Refusal(400, "resourceInUseByAnotherResource", message)


def not_ready(key: str) -> Refusal:
    return Refusal(400, "resourceNotReady", f"The resource '{key}' is not ready")


def condition_not_met(what: str = "Supplied fingerprint does not match current metadata fingerprint.") -> Refusal:
    return Refusal(412, "conditionNotMet", what)


def _noun(key: str) -> str:
    return {"addresses": "address", "resourcePolicies": "resource_policy"}.get(
        key.split("/")[-2], key.split("/")[-2].removesuffix("s")
    )


@dataclass(frozen=True)
class Principal:
    """Who calls: a service account (or whoever a token was given to)."""

    email: str
    scopes: tuple[str, ...] = ("https://www.googleapis.com/auth/cloud-platform",)


@dataclass
class World(world.World):
    """`denied` and `allowed` are permissions, such as compute.instances.create; `called_by` has (e-mail, permission)."""

    page_size: int = 500  # of Compute Engine
    operation_seconds: float = 0.0  # until an operation that has nothing else to wait for is done
    iam_delay: float = 0.0  # Compute Engine knows a service account so long after IAM made it
    wait_seconds: float = 120.0  # the most for which `wait` holds a call
    detailed: bool = False  # stockouts come with the longer code
    preempt_seconds: float = 0.0  # from the notice of a preemption until the machine is gone
    stillborn: Callable[[str], Failure | None] | None = None  # of an instance's name: why it comes to nothing after all
    token_seconds: float = 3600.0  # what an access token is good for
    disabled_services: set[str] = field(default_factory=set)  # such as compute.googleapis.com
    billing: bool = True  # whether the project has a billing account
    refused_policies: dict[str, str] = field(default_factory=dict)  # constraint -> what it refuses: see gcp_rules
    quotas: dict[str, float] = field(default_factory=dict)  # "METRIC" or "METRIC/region" -> limit
    unreachable: set[str] = field(default_factory=set)  # zones (or regions) that do not answer lists over all of them
    policy: Callable[[Principal, str, str], bool] | None = None  # (who, permission, resource): who has which rights
    accounts: dict[str, Any] = field(default_factory=dict)  # e-mail -> gcp_tokens.Account
    closed_projects: set[str] = field(default_factory=set)  # that these credentials may not see

    def permitted(self, principal: Principal, permission: str, resource: str = "") -> bool:
        if permission in self.denied or (self.allowed is not None and permission not in self.allowed):
            return False
        return self.policy is None or self.policy(principal, permission, resource)

    # ------------------------------------------------------------ Google's words

    def no_capacity(self, instance_type: str, zone: str) -> Failure:
        return self.exhausted(instance_type, zone)

    def exhausted(
        self, instance_type: str, zone: str, attachment: str = "", project: str = PROJECT, elsewhere: tuple[str, ...] = ()
    ) -> Failure:  # fmt: skip
        """`elsewhere`: zones that have room, which Google sometimes tells."""
        what = f"A {instance_type} VM instance"
        if attachment:
            name, _, count = attachment.partition(":")
            what += f" with {count} {name} accelerator(s)"
        hint = "Alternatively, you can try"
        if elsewhere:
            hint = (
                f"Consider trying your request in the {', '.join(elsewhere)} zone(s), which currently has capacity to "
                f"accommodate your request. {hint}"
            )
        told = (
            f"{what} is currently unavailable in the {zone} zone. {hint} your request again with a different VM hardware "
            "configuration or at a later time. For more information, see the troubleshooting documentation."
        )
        metadatas = {
            "attachment": attachment, "vmType": instance_type, "zone": zone, "zonesAvailable": ",".join(elsewhere),
        }  # fmt: skip
        details = [
            {"help": {"links": [{"description": "Troubleshooting documentation", "url": TROUBLESHOOTING}]}},
            {"localizedMessage": {"locale": "en-US", "message": told}},
            {"errorInfo": {"domain": "compute.googleapis.com", "metadatas": metadatas, "reason": "resource_availability"}},
        ]  # fmt: skip
        message = f"The zone 'projects/{project}/zones/{zone}' does not have enough resources available to fulfill the request.  "
        if self.detailed:
            code, message = "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", message + "'(resource type:compute)'."
        else:
            code, message = "ZONE_RESOURCE_POOL_EXHAUSTED", message + "Try a different zone, or try again later."
        return Failure(code, message, 503, "SERVICE UNAVAILABLE", details)

    def over_quota(self, market: str, left: int) -> Failure:
        return quota_exceeded("PREEMPTIBLE_CPUS" if market == "spot" else "CPUS", left, REGION)

    def too_many_calls(self) -> Refusal:
        message = (
            "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute' of service "
            f"'compute.googleapis.com' for consumer 'project_number:{PROJECT_NUMBER}'."
        )
        info = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "RATE_LIMIT_EXCEEDED",
            "domain": "googleapis.com", "metadata": {"consumer": f"projects/{PROJECT_NUMBER}",
            "service": "compute.googleapis.com", "quota_limit": "defaultPerMinutePerProject"},
        }  # fmt: skip
        return Refusal(403, "rateLimitExceeded", message, "usageLimits", "PERMISSION_DENIED", [info])


def quota_exceeded(metric: str, limit: float, region: str) -> Failure:
    """`region` "": the quota counts all regions."""
    where = f"in region {region}" if region else "globally"
    info = {
        "metricName": f"compute.googleapis.com/{metric.lower()}",
        "limitName": f"{metric.replace('_', '-')}-per-project{'-region' if region else ''}",
        "dimensions": {"region": region} if region else {"global": "global"},
        "limit": float(limit),
    }
    message = f"Quota '{metric}' exceeded.  Limit: {float(limit)} {where}."
    return Failure("QUOTA_EXCEEDED", message, 403, "FORBIDDEN", [{"quotaInfo": info}])
