"""Which of Google's services the stand-in has, and who answers each method.

    services.add(Service(document("iam.v1"), {"iam.projects.serviceAccounts.create": create}, needs=rights_of))

`create(call)` returns the answer, or raises `gcp_world.Refusal`. Methods without a handler are refused and recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from werkzeug.wrappers import Request as WireRequest
from werkzeug.wrappers import Response

from tests.cloud.gcp.schema import Document
from tests.cloud.gcp.world import Failure, Principal, Refusal, World


@dataclass
class Call:
    """One call that the Discovery document allows, by a caller who is known."""

    world: World
    principal: Principal
    method: str  # such as compute.instances.insert
    path: dict[str, str]
    query: dict[str, Any]
    body: dict[str, Any]
    failure: Failure | None = None  # in which its operation shall end: a fault of the world

    def may(self, permission: str, resource: str) -> bool:
        """Whether the caller has it on the resource (`projects/p/zones/z/instances/n`), which this call needs."""
        with self.world.lock:
            self.world.called_by.append((self.principal.email, permission))
        return self.world.permitted(self.principal, permission, resource)

    def need(self, permission: str, resource: str) -> None:
        """Raises Google's 403 unless the caller has it."""
        if not self.may(permission, resource):
            raise Refusal(403, "forbidden", f"Required '{permission}' permission for '{resource}'")


Handler = Callable[[Call], dict[str, Any]]
Needs = Callable[[Call], Iterable[tuple[str, str]]]  # the (permission, resource) pairs of a call


def _plain(call: Call, handler: Handler) -> dict[str, Any]:
    with call.world.lock:
        return handler(call)


@dataclass
class Service:
    """`needs`: what a caller must be permitted before the handler runs. `invoke` runs it, by default under the world's lock.
    `older`: its errors have `error.errors` as well. `host`: where it is, if not where its document says."""

    document: Document
    handlers: Mapping[str, Handler]
    needs: Needs = lambda call: ()
    invoke: Callable[[Call, Handler], dict[str, Any]] = _plain
    older: bool = False
    host: str = ""
    scopes: tuple[str, ...] = ("https://www.googleapis.com/auth/cloud-platform",)  # one of these does

    @property
    def name(self) -> str:
        return self.host or self.document.service


@dataclass
class Services:
    by_host: dict[str, Service] = field(default_factory=dict)
    plain: dict[str, Callable[[WireRequest, str], Response]] = field(default_factory=dict)

    def add(self, service: Service) -> None:
        """What is there of the same one already stays."""
        known = self.by_host.get(service.name)
        service.handlers = {**(known.handlers if known else {}), **service.handlers}
        self.by_host[service.name] = service

    def add_plain(self, host: str, answer: Callable[[WireRequest, str], Response]) -> None:
        """A host whose calls need no token and have no Discovery document: `answer(request, path)`."""
        self.plain[host] = answer
