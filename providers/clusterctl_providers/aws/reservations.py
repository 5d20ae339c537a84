"""Capacity that was reserved beforehand: how much of it is free, and from when until when it is to be had."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from clusterctl.core.errors import ProviderError
from clusterctl_providers.aws.calls import Calls

RESERVED = "reserved"  # markets of offers
CAPACITY_BLOCK = "capacity-block"
MARKETS = (RESERVED, CAPACITY_BLOCK)
TAKEN_BEFORE = 1800.0  # seconds before the end of a block at which EC2 begins to terminate what runs in it
FRESH = 15.0  # seconds that an answer is believed where nothing is launched by it


@dataclass(frozen=True)
class Reservation:
    """`free` counts instances. `starts` and `ends` are unix seconds, 0 = not set. `group` is its placement group."""

    id: str
    instance_type: str
    zone: str
    total: int
    free: int
    state: str
    starts: float
    ends: float
    block: bool
    group: str

    @property
    def market(self) -> str:
        return CAPACITY_BLOCK if self.block else RESERVED

    @property
    def nodes_until(self) -> float:
        """When nodes in it come to their end, or begin to cost; 0 = never."""
        return self.ends - TAKEN_BEFORE if self.block and self.ends else self.ends

    def closed(self, now: float) -> str:
        """Why no node can be launched into it now; "" when one can."""
        what = f"capacity {'block' if self.block else 'reservation'} {self.id}"
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
    """Looks reservations up; answers are kept for a few seconds."""

    def __init__(self, calls: Calls, clock: Callable[[], float] = time.time) -> None:
        self._calls, self._clock = calls, clock
        self._known: dict[str, tuple[float, Reservation]] = {}
        self._lock = threading.Lock()

    def find(self, reservation: str, *, fresh: bool = False) -> Reservation:
        """Raises ProviderError when AWS does not know it or does not answer."""
        with self._lock:
            until, known = self._known.get(reservation, (0.0, None))
            if known is None or fresh or self._clock() >= until:
                known = self._look_up(reservation)
                self._known[reservation] = (self._clock() + FRESH, known)
            return known

    def last(self, reservation: str) -> Reservation | None:
        """What was known of it last."""
        return self._known.get(reservation, (0.0, None))[1]

    def _look_up(self, reservation: str) -> Reservation:
        what = f"looking up the capacity reservation {reservation} in {self._calls.region}"
        answer = self._calls.read(
            "ec2", "describe_capacity_reservations", what, CapacityReservationIds=[reservation]
        )  # fmt: skip
        if not answer["CapacityReservations"]:
            raise ProviderError(f"{what}: there is none; reservations belong to a region and an account")
        return _reservation(answer["CapacityReservations"][0])


def reservation_parameters(found: Reservation) -> dict[str, Any]:
    """The part of RunInstances that launches into it, and nowhere else."""
    target = {"CapacityReservationTarget": {"CapacityReservationId": found.id}}
    parameters: dict[str, Any] = {"CapacityReservationSpecification": target}
    if found.block:
        parameters["InstanceMarketOptions"] = {"MarketType": CAPACITY_BLOCK}
    return parameters


def market_of(row: Mapping[str, Any]) -> str:
    """The market of an instance as DescribeInstances shows it."""
    lifecycle = str(row.get("InstanceLifecycle") or "")
    if lifecycle in ("spot", CAPACITY_BLOCK):
        return lifecycle
    target = (row.get("CapacityReservationSpecification") or {}).get("CapacityReservationTarget") or {}
    return RESERVED if target.get("CapacityReservationId") else "on-demand"


def _reservation(row: Mapping[str, Any]) -> Reservation:
    return Reservation(
        id=str(row["CapacityReservationId"]),
        instance_type=str(row["InstanceType"]),
        zone=str(row["AvailabilityZone"]),
        total=int(row.get("TotalInstanceCount") or 0),
        free=int(row.get("AvailableInstanceCount") or 0),
        state=str(row.get("State") or ""),
        starts=_seconds(row.get("StartDate")),
        ends=_seconds(row.get("EndDate")),
        block=row.get("ReservationType") == CAPACITY_BLOCK,
        group=str(row.get("PlacementGroupArn") or "").rpartition("/")[2],
    )


def _seconds(at: datetime | None) -> float:
    return at.timestamp() if at else 0.0


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
