"""The pretended Compute Engine: its parts, what time does to them, and calls that are made twice."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from tests.cloud.gcp.facts import REGIONS, ZONES
from tests.cloud.gcp.operations import Operations
from tests.cloud.gcp.schema import document
from tests.cloud.gcp.services import Call, Handler, Service
from tests.cloud.gcp.store import Store, key_of_link
from tests.cloud.gcp.world import PROJECT, PROJECT_NUMBER, Refusal, World, invalid, not_found

SCOPES = (
    "https://www.googleapis.com/auth/cloud-platform",
    "https://www.googleapis.com/auth/compute",
    "https://www.googleapis.com/auth/compute.readonly",
)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class Part(Protocol):
    def handlers(self) -> dict[str, Handler]: ...


class Compute:
    def __init__(self, world: World) -> None:
        self.world = world
        self.store = Store(world)
        self.operations = Operations(world, self.store, places)
        self.operations.advance_all = self.advance
        self.clocks: list[Callable[[], None]] = [self.operations.advance]  # what time moves on
        self._handlers: dict[str, Handler] = self.operations.handlers()
        self._requests: dict[
            tuple[str, str], tuple[str, str]
        ] = {}  # (method, requestId) -> (what was asked, operation)

    def add(self, part: Part) -> None:
        self._handlers.update(part.handlers())

    def service(self, needs: Callable[[Call], Iterable[tuple[str, str]]]) -> Service:
        return Service(document("compute.v1"), self._handlers, needs, self._invoke, older=True, scopes=SCOPES)

    def advance(self) -> None:
        """What is due happens. Under the world's lock."""
        with self.world.lock:
            for clock in self.clocks:
                clock()

    def _invoke(self, call: Call, handler: Handler) -> dict[str, Any]:
        check_place(call)
        if call.method.endswith("Operations.wait"):
            self.advance()
            return handler(call)
        with self.world.lock:
            self.advance()
            number = call.query.get("requestId")
            if not number:
                return handler(call)
            if not _UUID.fullmatch(number) or not number.strip("0-"):
                raise invalid("requestId", number, "Must be a valid UUID.")
            asked = repr((sorted(call.path.items()), call.body))
            known = self._requests.get((call.method, number))
            if known:
                if known[0] != asked:
                    raise invalid("requestId", number, "It was used for another request.")
                return dict(self.store.get(known[1]))
            answer = handler(call)
            if answer.get("kind") == "compute#operation":
                self._requests[call.method, number] = (asked, key_of_link(answer["selfLink"]))
            return answer


def places() -> list[str]:
    return [*(f"zones/{zone}" for zone in ZONES), *(f"regions/{region}" for region in REGIONS)]


def check_place(call: Call) -> None:
    """The project, zone and region of a call exist."""
    project = call.path.get("project", PROJECT)
    if project == PROJECT_NUMBER:
        call.path["project"] = project = PROJECT
    if project in call.world.closed_projects or not _known_project(call, project):
        raise Refusal(404, "notFound", f"The resource 'projects/{project}' was not found")
    zone, region = call.path.get("zone"), call.path.get("region")
    if zone is not None and zone not in ZONES:
        if call.method.startswith("compute.zones."):
            raise not_found(f"projects/{project}/zones/{zone}")
        raise invalid("zone", zone, "Unknown zone.")
    if region is not None and region not in REGIONS:
        if call.method.startswith("compute.regions."):
            raise not_found(f"projects/{project}/regions/{region}")
        raise invalid("region", region, "Unknown region.")
    if zone in call.world.unreachable:
        raise Refusal(503, "backendError", f"The zone '{zone}' is not available.", status="UNAVAILABLE")


def _known_project(call: Call, project: str) -> bool:
    return project == PROJECT or (call.method.startswith("compute.images.") and project != PROJECT)
