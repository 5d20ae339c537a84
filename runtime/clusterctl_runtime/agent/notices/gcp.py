"""Compute Engine announces that it preempts a spot machine, and maintenance of a host that a machine cannot move away from."""

from __future__ import annotations

import time
import urllib.error

from clusterctl_runtime.agent.notices.source import Notice, Service

BASE = "http://metadata.google.internal/computeMetadata/v1/instance"
EVERY_SECONDS = 1.0  # a preempted machine has half a minute
PREEMPTED_SECONDS = 30.0
MAINTENANCE_SECONDS = 60.0  # an hour for machines with GPUs, of which nobody says when it began
_ASK = {"Metadata-Flavor": "Google"}  # without it nothing is answered


class GcpMetadata:
    """Neither announcement says when: the time runs from where it was first seen. Notices are "preempted" and "maintenance"; a
    machine that moves to another host meanwhile loses nothing, so that is none.

    It is asked again and again, and does not wait for a change: a thread that waits in an answer keeps the agent from ending.
    """

    every = EVERY_SECONDS

    def __init__(self, base: str = BASE) -> None:
        self._service = Service(base)
        self._announced: Notice | None = None

    def notice(self) -> Notice | None:
        found = self._found()
        if found is None or self._announced is None or found[0] != self._announced[0]:
            self._announced = found
        return self._announced

    def _found(self) -> Notice | None:
        if self._get("preempted") == "TRUE":
            return "preempted", time.time() + PREEMPTED_SECONDS
        if self._get("maintenance-event") == "TERMINATE_ON_HOST_MAINTENANCE":
            return "maintenance", time.time() + MAINTENANCE_SECONDS
        return None

    def _get(self, name: str) -> str:
        try:
            return self._service.open(f"/{name}", _ASK).strip()
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return ""
            raise
