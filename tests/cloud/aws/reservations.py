"""Capacity reservations and capacity blocks, which moto lacks: what is reserved, and launches into it.

aws_reservations.reserve("cr-0123456789abcdef0", "g6.xlarge", "us-east-1a", 4)
"""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Any

from moto.core import responses as core_responses
from moto.core.responses import ActionResult
from moto.ec2.models.instances import Instance
from moto.ec2.responses import EC2Response

from tests.cloud.aws.moto import WORLD
from tests.cloud.aws.world import Refusal

RESERVATIONS: dict[str, dict[str, Any]] = {}
_IN_USE = ("pending", "running", "shutting-down", "stopping")


def reserve(
    name: str, instance_type: str, zone: str, count: int, *, block: bool = False, starts: float = 0.0, ends: float = 0.0
) -> dict[str, Any]:
    """`starts` and `ends` in unix seconds. What it answers may be changed."""
    RESERVATIONS[name] = {
        "CapacityReservationId": name,
        "InstanceType": instance_type,
        "AvailabilityZone": zone,
        "TotalInstanceCount": count,
        "State": "active",
        "ReservationType": "capacity-block" if block else "default",
        "StartDate": datetime.fromtimestamp(starts or time.time() - 60, timezone.utc),
        "EndDateType": "limited" if ends else "unlimited",
        "InstanceMatchCriteria": "targeted",
        **({"EndDate": datetime.fromtimestamp(ends, timezone.utc)} if ends else {}),
    }
    return RESERVATIONS[name]


def forget() -> None:
    RESERVATIONS.clear()


def _free(backend: Any, name: str) -> int:
    used = sum(1 for i in backend.all_instances() if i.capacity_reservation_id == name and i._state.name in _IN_USE)
    return int(RESERVATIONS[name]["TotalInstanceCount"]) - used


def _describe(self: Any) -> Any:
    self.error_on_dryrun()
    wanted = self._get_param("CapacityReservationIds", []) or list(RESERVATIONS)
    for name in wanted:
        if name not in RESERVATIONS:
            raise Refusal("InvalidCapacityReservationId.NotFound", f"Reservation id '{name}' was not found.")
    rows = [RESERVATIONS[name] | {"AvailableInstanceCount": _free(self.ec2_backend, name)} for name in wanted]
    return ActionResult({"CapacityReservations": rows})


def _run(self: Any) -> Any:
    """Into the reservation that the call names, and nowhere else."""
    target = self._get_param("CapacityReservationSpecification.CapacityReservationTarget.CapacityReservationId")
    token = self._get_param("ClientToken")
    if not target or (self.region, token) in WORLD.tokens:
        return _plain_run(self)
    if target not in RESERVATIONS:
        raise Refusal("InvalidCapacityReservationId.NotFound", f"Reservation id '{target}' was not found.")
    row = RESERVATIONS[target]
    subnet = self._get_param("SubnetId") or self._get_param("NetworkInterfaces", [{}])[0].get("SubnetId")
    zone = self.ec2_backend.get_subnet(subnet).availability_zone
    block = row["ReservationType"] == "capacity-block"
    market = self._get_param("InstanceMarketOptions.MarketType")
    if (row["InstanceType"], row["AvailabilityZone"]) != (self._get_param("InstanceType"), zone):
        raise Refusal(
            "InvalidParameterValue", "The instance does not match the attributes of the Capacity Reservation."
        )
    if (market == "capacity-block") != block:
        raise Refusal("InvalidParameterCombination", "The market type does not match the Capacity Reservation.")
    now = datetime.now(timezone.utc)
    open_now = row["State"] == "active" and row["StartDate"] <= now and not ("EndDate" in row and row["EndDate"] <= now)
    if not open_now or _free(self.ec2_backend, target) < int(self._get_param("MaxCount")):
        raise Refusal("ReservationCapacityExceeded", f"{target} does not have enough capacity for this request.")
    self.params.setdefault("InstanceMarketOptions", {})["MarketType"] = "capacity-block" if block else "reserved"
    answer = _plain_run(self)
    for instance in answer.result.instances:
        instance.lifecycle = "capacity-block" if block else None
        instance.capacity_reservation_id = target
        instance.capacity_reservation_specification = {"CapacityReservationTarget": {"CapacityReservationId": target}}
    return answer


_plain_run = EC2Response.run_instances
EC2Response.run_instances = _run
EC2Response.describe_capacity_reservations = _describe
Instance.capacity_reservation_id = None
Instance.capacity_reservation_specification = None
if hasattr(core_responses.method_names_from_class, "cache_clear"):
    core_responses.method_names_from_class.cache_clear()
