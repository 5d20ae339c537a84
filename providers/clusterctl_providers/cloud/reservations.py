"""Capacity that was reserved beforehand: how much of it is free, and from when until when it is to be had.

AWS           capacity reservations (on demand) and capacity blocks, which EC2 begins to empty before their end
Google Cloud  reservations, named by affinity, and future reservations with a window; free = count - inUseCount
Azure         capacity reservation groups, whose free part is capacity less the VMs allocated in it; no window
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from clusterctl.core.errors import NoCapacity, ProviderError
from clusterctl_providers.base import CreateRequest
from clusterctl_providers.cloud.launch import is_gang

RESERVED = "reserved"  # market of offers
FRESH = 15.0  # seconds that an answer is believed where nothing is launched by it


@dataclass(frozen=True)
class Reservation:
    """`free` counts instances. `starts` and `ends` are unix seconds, 0 = not set; its nodes go `taken_before` seconds before
    the end. `kind` is what sentences call it, `group` the placement group that comes with it."""

    id: str
    instance_type: str
    zone: str
    total: int
    free: int
    state: str = "active"
    starts: float = 0.0
    ends: float = 0.0
    taken_before: float = 0.0
    market: str = RESERVED
    kind: str = "reservation"
    group: str = ""

    @property
    def nodes_until(self) -> float:
        """When nodes in it come to their end, or begin to cost; 0 = never."""
        return self.ends - self.taken_before if self.ends else 0.0

    def closed(self, now: float) -> str:
        """Why no node can be launched into it now; "" when one can."""
        what = f"capacity {self.kind} {self.id}"
        if self.starts > now:
            return f"{what} begins on {_date(self.starts)}"
        if self.ends and self.nodes_until <= now:
            return f"{what} ended on {_date(self.ends)}" if self.ends <= now else f"{what} ends on {_date(self.ends)}"
        if self.state != "active":
            return f"{what} is {self.state}"
        if self.free <= 0:
            return f"all {self.total} instances of {what} are in use"
        return ""


class Reservations:
    """Looks reservations up; answers are kept for a few seconds. Thread-safe."""

    def __init__(self, look_up: Callable[[str], Reservation], clock: Callable[[], float] = time.time) -> None:
        """`look_up` raises ProviderError when the cloud does not know it or does not answer."""
        self._look_up, self._clock = look_up, clock
        self._known: dict[str, tuple[float, Reservation]] = {}
        self._lock = threading.Lock()

    def find(self, reservation: str, *, fresh: bool = False) -> Reservation:
        """Raises ProviderError when the cloud does not know it or does not answer."""
        with self._lock:
            until, known = self._known.get(reservation, (0.0, None))
            if known is None or fresh or self._clock() >= until:
                known = self._look_up(reservation)
                self._known[reservation] = (self._clock() + FRESH, known)
            return known

    def last(self, reservation: str) -> Reservation | None:
        """What was known of it last."""
        return self._known.get(reservation, (0.0, None))[1]

    def of(self, request: CreateRequest, *, fresh: bool = False) -> Reservation:
        """The reservation of the request's pool. Raises NoCapacity where it is not that of its offer any more."""
        name = str(request.pool.spec.get("reservation") or "")
        found = self.find(name, fresh=fresh) if name else None
        offer = request.offer
        if found is None or (found.instance_type, found.zone) != (offer.instance_type, offer.zone):
            raise NoCapacity(
                f"pool {request.pool.name} has no reservation of {offer.instance_type} in {offer.zone} any more"
            )
        return found

    def beyond(self, requests: Sequence[CreateRequest]) -> dict[str, ProviderError]:
        """By node token, those of these like requests for which it has nothing free: the last ones, or all of a gang."""
        found = self.of(requests[0], fresh=True)
        closed = found.closed(self._clock())
        free = 0 if closed else found.free
        if len(requests) <= free:
            return {}
        text = f"{found.id} has {free} free {found.instance_type}, {len(requests)} are wanted"
        kept = 0 if is_gang(requests) else free
        refusal = NoCapacity(closed or text)
        return {request.token: refusal for request in requests[kept:]}


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
