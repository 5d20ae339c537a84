"""What is Azure's own in the state of its stand-in, and Azure's words for a refusal."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.cloud import world

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
TENANT = "99999999-8888-7777-6666-555555555555"
REGION = "eastus"


class Refusal(Exception):
    """An answer with an HTTP status instead of what was asked for; `code` is Azure's word, by which callers decide."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        target: str = "",
        details: list[dict[str, Any]] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.target = status, code, message, target
        self.details, self.headers = details or [], headers or {}

    def body(self) -> dict[str, Any]:
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.target:
            error["target"] = self.target
        if self.details:
            error["details"] = self.details
        return {"error": error}


class Violation(Refusal):
    """A request that no caller should ever make: it is recorded, and fails the test."""


class Failure(Exception):
    """What goes wrong after a call was accepted: it is in the operation's status. `code` is Azure's word."""

    def __init__(self, code: str, message: str, details: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.details = code, message, details or []

    def body(self) -> dict[str, Any]:
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.details:
            error["details"] = self.details
        return error


def not_found(id_: str) -> Refusal:
    """`id_`: that of a resource in a group."""
    parts = id_.split("/")
    group = parts[4] if len(parts) > 4 and parts[3].lower() == "resourcegroups" else ""
    resource = id_.rpartition("/providers/")[2]
    message = f"The Resource '{resource}' under resource group '{group}' was not found."
    return Refusal(
        404, "ResourceNotFound", f"{message} For more details please go to https://aka.ms/ARMResourceNotFoundFix"
    )


def group_not_found(name: str) -> Refusal:
    return Refusal(404, "ResourceGroupNotFound", f"Resource group '{name}' could not be found.")


def missing_reference(id_: str, by: str) -> Refusal:
    """The resource that a body names does not exist."""
    message = (
        f"Resource {id_} referenced by resource {by} was not found. Please make sure that the referenced resource exists, "
        "and that both resources are in the same region."
    )
    return Refusal(400, "InvalidResourceReference", message)


def invalid(parameter: str, message: str) -> Refusal:
    """As the compute service says it."""
    return Refusal(400, "InvalidParameter", message, parameter)


@dataclass(frozen=True)
class Principal:
    """Who calls. `client_id` is "" for people."""

    name: str
    object_id: str
    client_id: str = ""


@dataclass
class World(world.World):
    """`denied` and `allowed` are actions of roles, such as Microsoft.Compute/virtualMachines/write; `calls` and `called_by`
    have these too."""

    operation_seconds: float = 0.0  # until an operation that has nothing else to wait for is done
    retry_after: int | None = None  # what operations in progress tell their callers to wait
    page_sizes: dict[str, int] = field(default_factory=lambda: {"microsoft.compute/virtualmachines": 50})
    graph_delay: float = 0.0  # the Resource Graph knows of a change so long after it
    preempt_seconds: float = 0.0  # from the notice of an eviction until the machine is gone
    quotas: dict[str, float] = field(
        default_factory=dict
    )  # "NAME" or "NAME/region" -> vCPUs (or things of the network)
    restricted: set[str] = field(default_factory=set)  # sizes, or SIZE/zone, that this subscription may not have
    refused_at_once: bool = False  # stockouts are told by the PUT, and not by its operation
    stillborn: Callable[[str], Failure | None] | None = None  # of a machine's name: why it does not come up after all
    features: set[str] = field(default_factory=set)  # that the subscription has asked for
    token_seconds: float = 3600.0  # what an access token is good for
    unregistered: set[str] = field(default_factory=set)  # namespaces, such as Microsoft.Compute
    subscription_state: str = "Enabled"
    policy: Callable[[Principal, str, str], bool] | None = None  # (who, action, scope): who has which rights
    admission: list[Callable[[Any, dict[str, Any]], None]] = field(default_factory=list)  # (call, resource): may refuse

    def permitted(self, principal: Principal, action: str, scope: str) -> bool:
        if action in self.denied or (self.allowed is not None and action not in self.allowed):
            return False
        return self.policy is None or self.policy(principal, action, scope)

    def operations(self, since: int = 0) -> list[str]:
        """Such as virtualMachines.createOrUpdate, of the same calls as `actions`."""
        return [parameters["operation"] for _, _, parameters in self.calls[since:]]

    # ------------------------------------------------------------ Azure's words

    def no_capacity(self, instance_type: str, zone: str) -> Failure:
        if zone:
            return Failure(
                "ZonalAllocationFailed",
                "Allocation failed. We do not have sufficient capacity for the requested VM size in this zone. Read more about "
                "improving likelihood of allocation success at http://aka.ms/allocation-guidance",
            )
        return Failure(
            "AllocationFailed",
            "Allocation failed. We do not have sufficient capacity for the requested VM size in this region. Read more about "
            "improving likelihood of allocation success at http://aka.ms/allocation-guidance",
        )

    def too_many_calls(self) -> Refusal:
        """As the compute service says it, in the word that it also has for a quota."""
        rate = next(iter(self.rates.values()))[1]
        seconds = str(math.ceil(1 / rate)) if rate else "1"
        return Refusal(
            429,
            "OperationNotAllowed",
            "The server rejected the request because too many requests have been received for this subscription.",
            details=[{
                "code": "TooManyRequests", "target": "PutVM",
                "message": '{"operationGroup":"PutVM","allowedRequestCount":240,"measuredRequestCount":241}',
            }],
            headers={"Retry-After": seconds},
        )  # fmt: skip
