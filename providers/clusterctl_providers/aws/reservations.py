"""Capacity reservations and capacity blocks of EC2, as `cloud.reservations` knows them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from clusterctl.core.errors import ProviderError
from clusterctl_providers.aws.calls import Calls
from clusterctl_providers.cloud.reservations import RESERVED, Reservation

CAPACITY_BLOCK = "capacity-block"
MARKETS = (RESERVED, CAPACITY_BLOCK)
TAKEN_BEFORE = 1800.0  # seconds before the end of a block at which EC2 begins to terminate what runs in it


def look_up(calls: Calls, reservation: str) -> Reservation:
    """Raises ProviderError when AWS does not know it or does not answer."""
    what = f"looking up the capacity reservation {reservation} in {calls.region}"
    answer = calls.read("ec2", "describe_capacity_reservations", what, CapacityReservationIds=[reservation])
    if not answer["CapacityReservations"]:
        raise ProviderError(f"{what}: there is none; reservations belong to a region and an account")
    return _reservation(answer["CapacityReservations"][0])


def reservation_parameters(found: Reservation) -> dict[str, Any]:
    """The part of RunInstances that launches into it, and nowhere else."""
    target = {"CapacityReservationTarget": {"CapacityReservationId": found.id}}
    parameters: dict[str, Any] = {"CapacityReservationSpecification": target}
    if found.market == CAPACITY_BLOCK:
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
    block = row.get("ReservationType") == CAPACITY_BLOCK
    return Reservation(
        id=str(row["CapacityReservationId"]),
        instance_type=str(row["InstanceType"]),
        zone=str(row["AvailabilityZone"]),
        total=int(row.get("TotalInstanceCount") or 0),
        free=int(row.get("AvailableInstanceCount") or 0),
        state=str(row.get("State") or ""),
        starts=_seconds(row.get("StartDate")),
        ends=_seconds(row.get("EndDate")),
        taken_before=TAKEN_BEFORE if block else 0.0,
        market=CAPACITY_BLOCK if block else RESERVED,
        kind="block" if block else "reservation",
        group=str(row.get("PlacementGroupArn") or "").rpartition("/")[2],
    )


def _seconds(at: datetime | None) -> float:
    return at.timestamp() if at else 0.0
