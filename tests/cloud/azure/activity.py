"""The subscription's activity log (Microsoft.Insights): who deleted which machine, and which ones Azure took back. Microsoft's
packages that judge the other calls do not have it: what may be asked is said here."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from werkzeug.wrappers import Request, Response

from tests.cloud.azure.resources import Resources
from tests.cloud.azure.services import Call, Services
from tests.cloud.azure.store import Store, group_of, name_of
from tests.cloud.azure.tokens import Tokens
from tests.cloud.azure.world import SUBSCRIPTION, Refusal, World

PATH = rf"/subscriptions/{SUBSCRIPTION}/providers/Microsoft\.Insights/eventtypes/management/values"
OPERATION, ACTION = "activityLogs.list", "Microsoft.Insights/eventtypes/values/read"
VERSION = "2015-04-01"
_FILTER = re.compile(r"eventTimestamp ge '(?P<since>[-\d:TZ]+)' and resourceGroupName eq '(?P<group>[^']+)'")
_MEMBERS = frozenset({"eventTimestamp", "operationName", "status", "caller", "resourceId"})


@dataclass(frozen=True)
class Event:
    at: float  # by the world's clock
    row: dict[str, Any]


class ActivityLog:
    """`seconds`: so long after something was done it is told."""

    def __init__(self, world: World, store: Store, services: Services, resources: Resources, tokens: Tokens) -> None:
        self._world, self._store, self._resources, self._tokens = world, store, resources, tokens
        self.seconds, self.page = 0.0, 200
        self._events: list[Event] = []
        services.on("virtualMachines.delete", self._deleted)
        services.plain(PATH, self._answer)

    def evicted(self, id_: str) -> None:
        self._note(id_, "Microsoft.Compute/virtualMachines/evictSpotVM/action", "")

    def _deleted(self, call: Call) -> Any:
        if self._store.find(call.id):
            self._note(call.id, "Microsoft.Compute/virtualMachines/delete", call.principal.name)
        return self._resources.serve(call)

    def _note(self, id_: str, operation: str, caller: str) -> None:
        row: dict[str, Any] = {
            "eventTimestamp": self._store.now(), "operationName": {"value": operation, "localizedValue": operation},
            "status": {"value": "Started", "localizedValue": "Started"}, "resourceId": id_,
            **({"caller": caller} if caller else {}),
        }  # fmt: skip
        self._events.append(Event(self._world.clock(), row))

    # ------------------------------------------------------------ read

    def _answer(self, request: Request, _: re.Match[str]) -> Response:
        with self._world.lock:
            try:
                return _json(200, self._read(request))
            except Refusal as refusal:
                return _json(refusal.status, refusal.body())

    def _read(self, request: Request) -> dict[str, Any]:
        world, query = self._world, request.args
        principal = self._tokens.principal(request.headers.get("Authorization", ""))
        world.calls.append((world.clock(), ACTION, {"operation": OPERATION, "id": request.path, **query}))
        world.called_by.append((principal.name, ACTION))
        wanted = _FILTER.fullmatch(query.get("$filter", ""))
        members = set(query.get("$select", "").split(","))
        if query.get("api-version") != VERSION or wanted is None or not members <= _MEMBERS:
            world.violations.append(f"{OPERATION}: {request.full_path}")
            raise Refusal(400, "BadRequest", "The stand-in does not know this question to the activity log.")
        if not world.permitted(principal, ACTION, f"/subscriptions/{SUBSCRIPTION}"):
            raise Refusal(
                403, "AuthorizationFailed",
                f"The client '{principal.name}' does not have authorization to perform action '{ACTION}' over scope "
                f"'/subscriptions/{SUBSCRIPTION}' or the scope is invalid.",
            )  # fmt: skip
        if fault := world.fault_for(OPERATION, request.full_path):
            raise Refusal(fault.status, fault.code, fault.message)
        known = [e.row for e in self._events if e.at + self.seconds <= world.clock() and _is_in(e.row, wanted["group"])]
        begin = int(query.get("$skiptoken", 0))
        rows = [{key: row[key] for key in members & row.keys()} for row in reversed(known)]  # the newest first
        body: dict[str, Any] = {"value": rows[begin : begin + self.page]}
        if begin + self.page < len(rows):
            body["nextLink"] = (
                f"{request.base_url}?{urlencode({**query, '$skiptoken': str(begin + self.page)}, safe='$')}"
            )
        return body


def _is_in(row: dict[str, Any], group: str) -> bool:
    return name_of(group_of(str(row["resourceId"]))).lower() == group.lower()


def _json(status: int, body: dict[str, Any]) -> Response:
    return Response(json.dumps(body), status=status, content_type="application/json; charset=utf-8")
