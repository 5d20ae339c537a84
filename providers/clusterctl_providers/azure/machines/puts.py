"""The PUTs of a launch, sent together: an answer for each VM."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from clusterctl_runtime.backoff import Backoff

from clusterctl.core.errors import ProviderError, Throttled, UnknownOutcome
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.errors import is_taken
from clusterctl_providers.azure.machines.body import vm_of
from clusterctl_providers.azure.rights.identity import is_unseen
from clusterctl_providers.cloud.listing import SETTLES

log = logging.getLogger(__name__)

TOGETHER = 16
TRIES = 3  # of a PUT whose answer was lost: it is the same VM
PATIENCE = 30.0  # seconds that one waits for its turn in the bucket, one after the other where Azure limits the calls
AT_MOST = 5.0  # seconds of which at a time: for longer the launch is told of, and made again


@dataclass
class Answers:
    """Of VMs by name. `accepted` were, or are there from before; `unknown`: whose answer was lost; `refused`: there is none."""

    accepted: set[str] = field(default_factory=set[str])
    unknown: dict[str, ProviderError] = field(default_factory=dict[str, ProviderError])
    refused: dict[str, ProviderError] = field(default_factory=dict[str, ProviderError])


class Puts:
    """`path`: the id of the VM of a name."""

    def __init__(
        self,
        calls: Calls,
        path: Callable[[str], str],
        clock: Callable[[], float],
        pause: Callable[[float], None],
    ) -> None:
        self._calls, self._path, self._clock, self._pause = calls, path, clock, pause
        self._stopped: ProviderError | None = None
        self._lock, self._narrow = threading.Lock(), threading.Lock()

    def send(self, call: Mapping[str, Any], names: Sequence[str], what: str) -> Answers:
        """What is refused for one is refused for those that were not sent yet: they are alike."""
        answers = Answers()
        with ThreadPoolExecutor(min(TOGETHER, len(names)), "clusterctl-azure") as pool:
            for name, error in zip(names, pool.map(lambda name: self._answer(call, name, what), names), strict=True):
                if error is None or is_taken(error):
                    answers.accepted.add(name)
                elif isinstance(error, UnknownOutcome):
                    answers.unknown[name] = error
                else:
                    answers.refused[name] = error
        return answers

    def _answer(self, call: Mapping[str, Any], name: str, what: str) -> ProviderError | None:
        if (stopped := self._stopped) is not None:
            return stopped
        try:
            self._put_where_seen(call, name, what)
        except ProviderError as error:
            if not is_taken(error):
                self._stop(error)
            return error
        return None

    def _stop(self, error: ProviderError) -> None:
        """One that is lost says nothing of the others; those are not sent, for the line seems to be broken."""
        if isinstance(error, UnknownOutcome):
            error = Throttled(f"it was not sent, since another answer was lost: {error}", retry_after=2.0)
        with self._lock:
            self._stopped = self._stopped or error

    def _put_where_seen(self, call: Mapping[str, Any], name: str, what: str) -> None:
        """An identity that was just made, Compute knows some seconds later than its maker says so: it is waited for."""
        backoff = Backoff(0.5, 5.0, factor=1.5, seconds=SETTLES, clock=self._clock, sleep=self._pause)
        while True:
            try:
                return self._put(call, name, what)
            except ProviderError as error:
                if not (call["awaits_identity"] and is_unseen(error)) or not backoff.wait():
                    raise
                log.info("%s; it is waited for", error)

    def _put(self, call: Mapping[str, Any], name: str, what: str) -> None:
        own = call["vms"][name]
        body = vm_of(call["body"], name, own["tags"], own["user_data"])
        try:
            return self._sent(name, body, what)
        except Throttled as error:
            throttled = error
        until = self._clock() + PATIENCE
        with self._narrow:
            while throttled.retry_after <= AT_MOST and self._clock() < until and self._stopped is None:
                self._pause(throttled.retry_after)
                try:
                    return self._sent(name, body, what)
                except Throttled as error:
                    throttled = error
        raise throttled

    def _sent(self, name: str, body: Mapping[str, Any], what: str) -> None:
        for lost in range(1, TRIES):
            try:
                self._calls.change("PUT", self._path(name), what, body, {"If-None-Match": "*"})
                return
            except UnknownOutcome as error:
                log.info("%s; it is sent again", error)
            self._pause(0.2 * lost)
        self._calls.change("PUT", self._path(name), what, body, {"If-None-Match": "*"})
