"""One call, who answers it, and what is particular to a type of resource.

    services.on("virtualMachines.deallocate", deallocate)          # one operation
    services.behave("Microsoft.Compute/disks", Disks(...))         # what PUT, GET, PATCH and DELETE of a type do beyond the usual
    services.plain(r"/api/retail/prices", prices)                  # no token, no schema: (request, match) -> Response

Operations that have neither are served as every resource is (`resources`), if they are PUT, PATCH, GET, DELETE or lists of a
type that can be put; others are refused and recorded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from werkzeug.wrappers import Request, Response

from tests.cloud.azure.schema.routes import Route
from tests.cloud.azure.store import Resource
from tests.cloud.azure.world import SUBSCRIPTION, Failure, Principal, Refusal, World


@dataclass
class Answer:
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Call:
    """One call that Microsoft's packages allow, by a caller who is known. `id` is the path as it was written."""

    world: World
    principal: Principal
    route: Route
    id: str
    path: dict[str, str]
    query: dict[str, str]
    body: Any
    headers: Mapping[str, str]
    failure: Failure | None = None  # in which its operation shall end: a fault of the world

    def may(self, action: str, scope: str) -> bool:
        """Whether the caller's roles have the action on what has this id; this call needs it."""
        with self.world.lock:
            self.world.called_by.append((self.principal.name, action))
        return self.world.permitted(self.principal, action, scope)

    def need(self, action: str, scope: str) -> None:
        """Raises Azure's 403 unless the caller has it."""
        if not self.may(action, scope):
            raise Refusal(
                403, "AuthorizationFailed",
                f"{self._who()} does not have authorization to perform action '{action}' over scope '{scope}' or the scope is "
                "invalid. If access was recently granted, please refresh your credentials.",
            )  # fmt: skip

    def _who(self) -> str:
        return f"The client '{self.principal.name}' with object id '{self.principal.object_id}'"

    def need_linked(self, action: str, scope: str) -> None:
        """For what the body names: a subnet that is joined, an identity that is assigned."""
        if not self.may(action, scope):
            had = f"{self._who()} has permission to perform action '{action_of(self.route, self.path)}' on scope '{self.id}'"
            raise Refusal(
                403, "LinkedAuthorizationFailed",
                f"{had}; however, it does not have permission to perform action(s) '{action}' on the linked scope(s) '{scope}' "
                "(respectively) or the linked scope(s) are invalid.",
            )  # fmt: skip


Handler = Callable[[Call], Any]  # an Answer, or the body of one that is well
Plain = Callable[[Request, "re.Match[str]"], Response]


class Behaviour:
    """What is particular to a type of resource; all of it runs under the world's lock. `children`: a member of `properties`
    whose entries are resources of their own -> the last part of their type."""

    children: Mapping[str, str] = {}
    located = True  # a new one says in which region it is

    def check(self, call: Call, resource: Resource, before: Resource | None) -> None:
        """Refuses, or fills in what Azure does: `resource` is what will be kept, `before` what it takes the place of."""

    def check_child(self, call: Call, resource: Resource, before: Resource | None, parent: Resource) -> None:
        """The same for what came in the body of its parent, which is not kept yet."""
        self.check(call, resource, before)

    def begun(self, call: Call, resource: Resource, before: Resource | None) -> None:
        """It is kept, and its operation is under way."""

    def seconds(self, resource: Resource, before: Resource | None) -> float | None:
        """What its making or changing takes; None: what operations usually take."""
        return None

    def finish(self, resource: Resource) -> None:
        """At the end of making or changing it. May raise Failure or operations.NotYet."""

    def failed(self, resource: Resource, failure: Failure) -> None:
        """It stays, as failed."""

    def check_delete(self, call: Call | None, resource: Resource) -> None:
        """Refuses. Without a call it is its group that is deleted."""

    def deleting(self, resource: Resource) -> None:
        """Its end has begun."""

    def delete_seconds(self, resource: Resource) -> float | None:
        return None

    def deleted(self, resource: Resource) -> None:
        """It is gone."""

    def view(self, resource: Resource, query: Mapping[str, str]) -> None:
        """Adds what only shows when it is looked at, and takes away what never does. `resource` is a copy."""

    def listed(self, resource: Resource) -> bool:
        return True


@dataclass
class Services:
    handlers: dict[str, Handler] = field(default_factory=dict)
    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    plains: list[tuple[re.Pattern[str], Plain]] = field(default_factory=list)

    def on(self, operation: str, handler: Handler) -> None:
        self.handlers[operation] = handler

    def behave(self, type_: str, behaviour: Behaviour) -> None:
        self.behaviours[type_.lower()] = behaviour

    def plain(self, path: str, answer: Plain) -> None:
        """`path`: a regular expression."""
        self.plains.insert(0, (re.compile(path, re.I), answer))

    def behaviour(self, type_: str) -> Behaviour:
        return self.behaviours.get(type_.lower(), _USUAL)


_USUAL = Behaviour()
_VERBS = {"GET": "read", "HEAD": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete", "POST": "action"}
_QUESTIONS = {"resourceGraphClient.resources": "Microsoft.ResourceGraph/resources/read"}


def action_of(route: Route, path: Mapping[str, str]) -> str:
    """The action that a role must have for a call, such as Microsoft.Compute/virtualMachines/write. `path`: the call's own
    parts of it."""
    if route.operation in _QUESTIONS:
        return _QUESTIONS[route.operation]
    parts = ["resourceGroups" if part == "resourcegroups" else part for part in route.segments]
    at = max((i for i, part in enumerate(parts) if part == "providers"), default=None)
    verb = _VERBS[route.verb]
    if at is None or at + 1 == len(parts):
        return "/".join(["Microsoft.Resources", *parts[::2], verb])
    if parts[at + 1].startswith("{"):  # a provider itself
        namespace = path[parts[at + 1][1:-1]]
        return (
            f"{namespace}/{parts[-1]}/action"
            if verb == "action"
            else "Microsoft.Resources/subscriptions/providers/read"
        )
    return "/".join([parts[at + 1], *parts[at + 2 :: 2], verb])


def scope_of(route: Route, path: str) -> str:
    """On what it is done: a resource, or where a list is of. Whoever may read something may ask Resource Graph for it."""
    if route.operation in _QUESTIONS:
        return f"/subscriptions/{SUBSCRIPTION}"
    segments = path.strip("/").split("/")
    if not route.segments[-1].startswith("{"):
        segments.pop()
        if segments[-2:-1] and segments[-2].lower() == "providers":
            segments = segments[:-2]
    return "/" + "/".join(segments)
