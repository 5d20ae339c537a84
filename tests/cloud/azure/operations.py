"""What goes on after a call was answered: begun InProgress, ended by time, with the error of what was begun when it came to
nothing. It is asked for at the addresses that the answer names."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.cloud.azure.services import Answer, Call
from tests.cloud.azure.store import Store
from tests.cloud.azure.world import Failure, Refusal, World
from tests.cloud.world import Timetable

Finish = Callable[[], Any]  # may raise Failure or NotYet; what it returns is the operation's result
RETRY_SECONDS = 0.02


class NotYet(Exception):
    """What was due waits for something else: it is tried again in a moment."""


@dataclass
class Operation:
    """`error` is there when it came to nothing, `result` when it was asked for something."""

    id: str
    target: str  # the id of what it is about
    namespace: str
    location: str
    version: str
    begun: str
    finish: Finish
    failed: Callable[[Failure], None]
    status: str = "InProgress"
    ended: str = ""
    error: Failure | None = None
    result: Any = None


class Operations:
    def __init__(self, world: World, store: Store) -> None:
        self._world, self._store = world, store
        self._due = Timetable()
        self.by_id: dict[str, Operation] = {}
        self.url = ""  # of the stand-in, as the caller that is being served knows it

    def begin(
        self,
        call: Call,
        target: str,
        location: str,
        finish: Finish = lambda: None,
        seconds: float | None = None,
        failed: Callable[[Failure], None] = lambda failure: None,
    ) -> Operation:
        """`finish` runs when it is due, `failed` when it raised. A call that meets a fault of effect "operation" ends in that."""
        namespace = target.rpartition("/providers/")[2].partition("/")[0] if "/providers/" in target else ""
        id_ = str(uuid.uuid4())
        failure = call.failure

        def end() -> Any:
            if failure:
                raise failure
            return finish()

        operation = Operation(id_, target, namespace, location, call.route.version, self._store.now(), end, failed)
        self.by_id[id_] = operation
        delay = self._world.operation_seconds if seconds is None else seconds
        self._due.put(id_, self._world.clock() + delay, operation)
        return operation

    def pending(self, target: str) -> bool:
        """Whether something is under way with it."""
        return any(o.target.lower() == target.lower() and o.status == "InProgress" for o in self.by_id.values())

    def advance(self) -> None:
        """What is due ends."""
        for id_, operation in self._due.take(self._world.clock()):
            try:
                operation.result = operation.finish()
            except NotYet:
                self._due.put(id_, self._world.clock() + RETRY_SECONDS, operation)
                continue
            except Failure as failure:
                operation.error, operation.status = failure, "Failed"
                operation.failed(failure)
            else:
                operation.status = "Succeeded"
            operation.ended = self._store.now()

    def headers(self, operation: Operation, both: bool = True) -> dict[str, str]:
        """Where to ask for it. A group's end has a Location alone."""
        where = f"{self.url}/subscriptions/{operation.target.split('/')[2]}"
        if not operation.namespace:
            found = {"Location": f"{where}/operationresults/{operation.id}?api-version={operation.version}"}
        else:
            base = f"{where}/providers/{operation.namespace}/locations/{operation.location or 'global'}"
            version = f"api-version={operation.version}"
            found = {"Azure-AsyncOperation": f"{base}/operations/{operation.id}?{version}"}
            if both:
                found["Location"] = f"{base}/operationResults/{operation.id}?{version}"
        return {**found, **self._patience()}

    def _patience(self) -> dict[str, str]:
        return {} if self._world.retry_after is None else {"Retry-After": str(self._world.retry_after)}

    # ------------------------------------------------------------ what they are asked

    def status(self, id_: str) -> Answer:
        """Of the Azure-AsyncOperation."""
        operation = self._known(id_)
        body: dict[str, Any] = {"name": operation.id, "status": operation.status, "startTime": operation.begun}
        if operation.status == "InProgress":
            return Answer(200, body, self._patience())
        body["endTime"] = operation.ended
        if operation.error:
            body["error"] = operation.error.body()
        elif operation.result is not None:
            body["properties"] = {"output": operation.result}
        return Answer(200, body)

    def outcome(self, id_: str) -> Answer:
        """Of the Location."""
        operation = self._known(id_)
        if operation.status == "InProgress":
            return Answer(202, None, self.headers(operation))
        if operation.error:
            return Answer(409, {"error": operation.error.body()})
        if operation.result is not None:
            return Answer(200, operation.result)
        return Answer(200 if not operation.namespace else 204)

    def _known(self, id_: str) -> Operation:
        found = self.by_id.get(id_.lower())
        if found is None:
            raise Refusal(404, "OperationNotFound", f"The operation '{id_}' was not found.")
        return found
