"""What a project is beside its things: which APIs it may call, whether someone pays for it, what its organisation forbids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.cloud.gcp.identity import Rights, no_right
from tests.cloud.gcp.schema import document
from tests.cloud.gcp.services import Call, Service, Services
from tests.cloud.gcp.world import PROJECT, PROJECT_NUMBER, Refusal, World

Handlers = dict[str, Callable[[Call], dict[str, Any]]]
MOST_AT_ONCE = 30  # services in one batchGet
_BOOLEAN = ("require", "disable", "restrict")  # how constraints that are on or off begin


class Project:
    """`rights.organisation`: constraint ("constraints/compute.requireOsLogin") -> the rules of the policy in force."""

    def __init__(self, world: World, rights: Rights) -> None:
        self._world, self._rights = world, rights

    def install(self, services: Services) -> None:
        services.add(Service(document("serviceusage.v1"), self._usage()))
        services.add(
            Service(document("orgpolicy.v2"), {"orgpolicy.projects.policies.getEffectivePolicy": self._effective})
        )
        billing: Handlers = {"cloudbilling.projects.getBillingInfo": self._billing}
        services.add(Service(document("cloudbilling.v1"), billing))

    # ------------------------------------------------------------ APIs

    def _usage(self) -> Handlers:
        return {
            "serviceusage.services.get": lambda call: self._service(self._asked(call, call.path["name"])),
            "serviceusage.services.batchGet": self._services,
            "serviceusage.services.enable": self._enable,
        }

    def _asked(self, call: Call, name: str, permission: str = "serviceusage.services.get") -> str:
        parts = name.split("/")
        if parts[:3] not in (["projects", PROJECT, "services"], ["projects", PROJECT_NUMBER, "services"]):
            raise no_right(permission, name)
        self._need(call, permission)
        return parts[3]

    def _service(self, name: str) -> dict[str, Any]:
        state = "DISABLED" if name in self._world.disabled_services else "ENABLED"
        place = f"projects/{PROJECT_NUMBER}"
        return {"name": f"{place}/services/{name}", "parent": place, "state": state, "config": {"name": name}}

    def _services(self, call: Call) -> dict[str, Any]:
        names = call.query.get("names") or []
        if not 0 < len(names) <= MOST_AT_ONCE:
            raise Refusal(
                400, "badRequest", f"Between 1 and {MOST_AT_ONCE} names are wanted.", status="INVALID_ARGUMENT"
            )
        return {"services": [self._service(self._asked(call, name)) for name in names]}

    def _enable(self, call: Call) -> dict[str, Any]:
        name = self._asked(call, call.path["name"], "serviceusage.services.enable")
        self._world.disabled_services.discard(name)
        return {"name": "operations/noop.DONE_OPERATION", "done": True, "response": {"service": self._service(name)}}

    # ------------------------------------------------------------ who pays, and who forbids

    def _billing(self, call: Call) -> dict[str, Any]:
        self._need(call, "resourcemanager.projects.get")
        info = {"name": f"projects/{PROJECT}/billingInfo", "projectId": PROJECT}
        paid = {"billingAccountName": "billingAccounts/012345-567890-ABCDEF", "billingEnabled": True}
        return {**info, **(paid if self._world.billing else {})}

    def _effective(self, call: Call) -> dict[str, Any]:
        self._need(call, "orgpolicy.policy.get")
        short = call.path["name"].rpartition("/")[2]
        boolean = short.partition(".")[2].startswith(_BOOLEAN)
        refuses = {"enforce": True} if boolean else {"denyAll": True}
        rules = self._rights.organisation.get(f"constraints/{short}")
        if rules is None and f"constraints/{short}" in self._world.refused_policies:
            rules = [refuses]
        name = f"projects/{PROJECT_NUMBER}/policies/{short}"
        return {"name": name, "spec": {"rules": rules or [{"enforce": False} if boolean else {"allowAll": True}]}}

    def _need(self, call: Call, permission: str) -> None:
        try:
            call.need(permission, f"projects/{PROJECT}")
        except Refusal:
            raise no_right(permission, f"projects/{PROJECT}") from None
