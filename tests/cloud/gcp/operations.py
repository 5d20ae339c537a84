"""Compute Engine's long operations: begun RUNNING, ended by time, with the error of what was begun when it came to nothing."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.cloud.gcp.lists import aggregated, list_of
from tests.cloud.gcp.services import Call, Handler
from tests.cloud.gcp.store import BASE, Resource, Store, place_of
from tests.cloud.gcp.world import Failure, Refusal, World, not_found
from tests.cloud.world import Timetable

Finish = Callable[[], None]  # may raise Failure or NotYet


RETRY_SECONDS = 0.02


class NotYet(Exception):
    """What was due waits for something outside: it is tried again in a moment."""


@dataclass
class _Pending:
    body: Resource
    finish: Finish


class Operations:
    def __init__(self, world: World, store: Store, places: Callable[[], list[str]]) -> None:
        """`places`: all zones and regions, as `zones/z`."""
        self._world, self._store, self._places = world, store, places
        self._due = Timetable()
        self._undo: dict[str, Finish] = {}

    def begin(
        self,
        call: Call | None,
        kind: str,
        target: str,
        finish: Finish = lambda: None,
        seconds: float | None = None,
        undo: Finish = lambda: None,
        user: str = "",
        target_id: str = "",
        group: str = "",
    ) -> Resource:
        """`target`: the path of what it is about, whose place is the operation's. `finish` runs when it is due, `undo` when it
        ends in an error instead. A call that meets a fault of effect "operation" ends in that."""
        world, store = self._world, self._store
        parts = target.split("/")
        place = "/".join(parts[:4]) if parts[2] in ("zones", "regions") else "/".join(parts[:2]) + "/global"
        name = f"operation-{int(time.time() * 1000)}-{secrets.token_hex(7)[:13]}-{secrets.token_hex(4)}-{secrets.token_hex(4)}"
        key = f"{place}/operations/{name}"
        found = store.find(target) or {}
        body = store.add(key, "operation", {
            "operationType": kind, "targetLink": BASE + target, "targetId": target_id or found.get("id", store.number()),
            "status": "RUNNING", "user": user or (call.principal.email if call else "system"), "progress": 0,
            "insertTime": store.now(), "startTime": store.now(), **place_of(key),
        })  # fmt: skip
        del body["creationTimestamp"]
        if group:
            body["operationGroupId"] = group
        failure = call.failure if call else None

        def end() -> None:
            if failure:
                raise failure
            finish()

        self._undo[key] = undo
        delay = world.operation_seconds if seconds is None else seconds
        self._due.put(key, world.clock() + delay, _Pending(body, end))
        return dict(body)

    def advance(self) -> None:
        """What is due ends."""
        for key, pending in self._due.take(self._world.clock()):
            undo, body = self._undo.pop(key), pending.body
            try:
                pending.finish()
            except NotYet:
                self._undo[key] = undo
                self._due.put(key, self._world.clock() + RETRY_SECONDS, pending)
                continue
            except Failure as failure:
                undo()
                error: dict[str, Any] = {"code": failure.code, "message": failure.message}
                if failure.details:
                    error["errorDetails"] = failure.details
                body.update(error={"errors": [error]}, httpErrorStatusCode=failure.http, httpErrorMessage=failure.text)
            body.update(status="DONE", progress=100, endTime=self._store.now())

    # ------------------------------------------------------------ methods

    def handlers(self) -> dict[str, Handler]:
        found: dict[str, Handler] = {}
        for service in ("zoneOperations", "regionOperations", "globalOperations"):
            found[f"compute.{service}.get"] = self._get
            found[f"compute.{service}.wait"] = self._wait
            found[f"compute.{service}.list"] = self._list
            found[f"compute.{service}.delete"] = self._delete
        found["compute.globalOperations.aggregatedList"] = self._aggregated
        return found

    def _get(self, call: Call) -> dict[str, Any]:
        return dict(self._store.get(key_of_call(call)))

    def _wait(self, call: Call) -> dict[str, Any]:
        """Called without the world's lock: others go on meanwhile."""
        until = time.monotonic() + self._world.wait_seconds
        pause = 0.001
        while True:
            with self._world.lock:
                body = self._get(call)
            if body["status"] == "DONE" or time.monotonic() > until:
                return body
            time.sleep(pause)
            pause = min(0.02, pause * 2)
            with self._world.lock:
                self.advance_all()

    def advance_all(self) -> None:
        """Replaced by whoever has more than operations that time moves on."""
        self.advance()

    def _list(self, call: Call) -> dict[str, Any]:
        collection = f"projects/{call.path['project']}/{scope_of(call)}/operations"
        return list_of(call, "operation", collection, self._store.collection(collection))

    def _aggregated(self, call: Call) -> dict[str, Any]:
        scopes = self._store.scopes(call.path["project"], "operations")
        return aggregated(call, "operation", "operations", scopes, self._places())

    def _delete(self, call: Call) -> dict[str, Any]:
        key = key_of_call(call)
        if self._store.find(key) is None:
            raise not_found(key)
        if key in self._due:
            raise Refusal(400, "invalid", "Operations that are not done cannot be deleted.")
        self._store.remove(key)
        return {}


def scope_of(call: Call) -> str:
    """`zones/z`, `regions/r` or `global`."""
    for kind in ("zone", "region"):
        if kind in call.path:
            return f"{kind}s/{call.path[kind]}"
    return "global"


def key_of_call(call: Call, collection: str = "operations", member: str = "operation") -> str:
    return f"projects/{call.path['project']}/{scope_of(call)}/{collection}/{call.path[member]}"
