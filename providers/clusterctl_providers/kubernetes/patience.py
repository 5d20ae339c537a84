"""How long a pod may wait for a node before it counts as having found none, and who is heard on that.

The scheduler says at once that no node fits, and says it as well of a pod for which an autoscaler will add one. Whoever adds
nodes leaves an event at the pod: Kubernetes' own autoscaler `TriggeredScaleUp` or `NotTriggerScaleUp`, Karpenter `Nominated`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from clusterctl.core.errors import NoCapacity, ProviderError
from clusterctl.core.model import Instance
from clusterctl_providers.kubernetes.client import Client
from clusterctl_providers.kubernetes.rows import Row

log = logging.getLogger(__name__)

GRACE = 10.0  # seconds that the scheduler may take, where nobody says that nodes are added
GRACE_GROWING = 30.0  # where nodes show that somebody adds such: an autoscaler looks every 10 s
WHILE_SCALING = 900.0  # once somebody has said that a node is on its way
COMES = ("TriggeredScaleUp", "Nominated")
COMES_NOT = ("NotTriggerScaleUp",)


class Patience:
    """Remembers since when a pod waits, by this machine's clock: after a restart each has its time anew."""

    def __init__(self, client: Client, grows: Callable[[], bool], clock: Callable[[], float] = time.monotonic) -> None:
        self._client, self._grows, self._clock = client, grows, clock
        self._since: dict[str, float] = {}  # uid of a pod -> when it was first seen to fit nowhere

    def judged(self, rows: Iterable[Row], *, whole: bool = True) -> list[Instance]:
        """The instances as they count now. `whole`: these are all that there are."""
        rows, now = list(rows), self._clock()
        waiting = {row.pod_uid for row in rows if row.waits == "unschedulable"}
        kept = {uid: at for uid, at in self._since.items() if uid in waiting or not whole}
        self._since = {**dict.fromkeys(waiting, now), **kept}
        if not waiting:
            return [row.instance for row in rows]
        grace = GRACE_GROWING if self._grows() else GRACE
        late = {uid for uid in waiting if now - self._since[uid] >= grace}
        said = self._events(COMES) if late else {}
        refused = self._events(COMES_NOT) if late - said.keys() else {}
        return [self._judge(row, said, refused, now) if row.pod_uid in late else row.instance for row in rows]

    def _judge(self, row: Row, said: Mapping[str, str], refused: Mapping[str, str], now: float) -> Instance:
        words, shown = said.get(row.pod_uid), row.instance
        if words and now - self._since[row.pod_uid] < WHILE_SCALING:
            return replace(shown, queued=True, detail=f"a node is on its way ({words})")
        more = words or refused.get(row.pod_uid)
        detail = f"{shown.detail} ({more})" if more else shown.detail
        return replace(shown, state="stopped", refused=NoCapacity.code, detail=detail)

    def _events(self, reasons: tuple[str, ...]) -> dict[str, str]:
        """Uid of a pod -> what was said of it last. One call for each reason, however many pods there are."""
        found: dict[str, str] = {}
        for reason in reasons:
            path = self._client.path("events")
            what = f"reading events {reason} of namespace {self._client.namespace}"
            try:
                for page in self._client.pages(path, what, fieldSelector=f"involvedObject.kind=Pod,reason={reason}"):
                    found |= {_about(event): f"{reason}: {_line(event)}" for event in page}
            except ProviderError as error:
                log.info("%s; whether a node is on its way is not known", error)
        return found


def _about(event: Mapping[str, Any]) -> str:
    return str((event.get("involvedObject") or {}).get("uid") or "")


def _line(event: Mapping[str, Any]) -> str:
    return " ".join(str(event.get("message") or "").split())[:300]
