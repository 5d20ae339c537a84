"""delete, deallocate and start of VMs (`cloud.power.PowerCalls`): a call each, sent together.

An end and a stop are believed once they are accepted: what becomes of them, the next looks show, which ask a VM that was
stopped here for its state itself. A start is watched for a moment, since Azure may have no room for a machine that it let go.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from clusterctl_runtime.backoff import Backoff

from clusterctl.core.errors import ProviderError
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.errors import is_missing
from clusterctl_providers.azure.machines.instances import VmRows
from clusterctl_providers.azure.names import is_id
from clusterctl_providers.cloud.power import Answers, Verb, doing

TOGETHER = 16
STARTS = 15.0  # seconds after which a start that was not refused is believed


class VmPower:
    cloud = "Azure"
    most = 500

    def __init__(
        self,
        calls: Calls,
        rows: VmRows,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._calls, self._rows, self._clock, self._pause = calls, rows, clock, pause

    def is_id(self, text: str) -> bool:
        return is_id(text)

    def change(self, verb: Verb, instance_ids: Sequence[str]) -> Answers:
        """What Azure does not know (any more) has no answer."""
        act: dict[Verb, Callable[[str], None]] = {"end": self._end, "stop": self._stop, "start": self._start}
        if verb == "end":
            self._rows.let_go(instance_ids)
        else:
            self._rows.views.change(instance_ids)
        with ThreadPoolExecutor(min(TOGETHER, len(instance_ids)), "clusterctl-azure") as pool:
            found = pool.map(lambda i: (i, self._answer(act[verb], i)), instance_ids)
            return {i: answer for i, (known, answer) in found if known}

    def is_of_one(self, error: ProviderError) -> bool:
        """Each has its own answer: none is in the way of another."""
        return False

    def _answer(self, act: Callable[[str], None], name: str) -> tuple[bool, ProviderError | None]:
        try:
            act(name)
        except ProviderError as error:
            return (False, None) if is_missing(error) else (True, error)
        return True, None

    def _end(self, name: str) -> None:
        self._calls.change("DELETE", self._rows.path(name), doing("end", [name]), forceDeletion="true")

    def _stop(self, name: str) -> None:
        """One that is only powered off costs what it did."""
        self._calls.change("POST", f"{self._rows.path(name)}/deallocate", doing("stop", [name]))

    def _start(self, name: str) -> None:
        what = doing("start", [name])
        accepted = self._calls.change("POST", f"{self._rows.path(name)}/start", what)
        pauses = Backoff(0.5, 5.0, factor=2.0, seconds=STARTS, clock=self._clock, sleep=self._pause)
        while not self._calls.is_done(accepted, what) and pauses.wait():
            pass
