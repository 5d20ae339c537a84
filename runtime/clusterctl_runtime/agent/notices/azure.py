"""Azure's Scheduled Events announce that a machine is preempted, deleted, or moved to another host without its local disk."""

from __future__ import annotations

import json
import time
from email.utils import parsedate_to_datetime
from typing import Any

from clusterctl_runtime.agent.notices.source import Notice, Service

BASE = "http://169.254.169.254/metadata"
EVERY_SECONDS = 1.0  # a spot machine has half a minute
_ASK = {"Metadata": "true"}  # without it nothing is answered
_EVENTS = "/scheduledevents?api-version=2020-07-01"
_NAME = "/instance/compute/name?api-version=2021-02-01&format=text"
_LOSSES = {
    "Preempt": "preempted",
    "Terminate": "terminate",
    "Redeploy": "redeploy",
}  # a freeze or a restart ends no machine


class AzureMetadata:
    """The document has the events of all machines of a set: ours is the one that names us. Notices are "preempted", "terminate"
    and "redeploy", the nearest one first.

    An event is confirmed once nothing runs here any more, and not before: that is leave to begin before its time, which the work
    here needs. After that it spares what the rest of the time costs: a quarter of an hour where a host is maintained. One that
    is about other machines too is left to its time, since theirs may still have work.
    """

    every = EVERY_SECONDS

    def __init__(self, base: str = BASE) -> None:
        self._service, self._name = Service(base), ""
        self._nearest: dict[str, Any] = {}  # the event that was told last
        self._begun: dict[str, float] = {}  # events that are under way name no time: when they were first seen

    def notice(self) -> Notice | None:
        events: list[dict[str, Any]] = json.loads(self._service.open(_EVENTS, _ASK))["Events"]
        losses = [event for event in events if event["EventType"] in _LOSSES]
        if not losses:
            return None
        self._name = self._name or self._service.open(_NAME, _ASK).strip()
        ours = [event for event in losses if self._name in event["Resources"]]
        if not ours:
            return None
        self._nearest = min(ours, key=lambda event: (self._when(event), _LOSSES[event["EventType"]]))
        return _LOSSES[self._nearest["EventType"]], self._when(self._nearest)

    def confirm(self) -> None:
        if self._nearest.get("Resources") == [self._name] and self._nearest.get("EventStatus") == "Scheduled":
            wanted = {"StartRequests": [{"EventId": self._nearest["EventId"]}]}
            self._service.open(_EVENTS, _ASK, "POST", json.dumps(wanted).encode())

    def _when(self, event: dict[str, Any]) -> float:
        text = str(event.get("NotBefore") or "")
        if text:
            return parsedate_to_datetime(text).timestamp() + self._service.ahead
        return self._begun.setdefault(str(event["EventId"]), time.time())
