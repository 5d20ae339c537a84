"""Reservations of the pretended Compute Engine, which instances consume; and future ones, which are promises."""

from __future__ import annotations

from typing import Any

from tests.cloud.gcp.compute import Compute
from tests.cloud.gcp.facts import ZONES, machine_type
from tests.cloud.gcp.lists import aggregated, list_of
from tests.cloud.gcp.operations import key_of_call
from tests.cloud.gcp.services import Call, Handler
from tests.cloud.gcp.store import Resource
from tests.cloud.gcp.world import PROJECT, Failure, Refusal, World, already_exists, in_use, invalid, required

NAME_KEY = "compute.googleapis.com/reservation-name"


class Reservations:
    def __init__(self, compute: Compute) -> None:
        self._world: World = compute.world
        self._store, self._operations = compute.store, compute.operations

    def handlers(self) -> dict[str, Handler]:
        found: dict[str, Handler] = {
            "compute.reservations.insert": self._insert,
            "compute.reservations.delete": self._delete,
            "compute.reservations.resize": self._resize,
            "compute.futureReservations.insert": self._promise,
            "compute.futureReservations.delete": self._break,
        }
        for collection, kind in (("reservations", "reservation"), ("futureReservations", "futureReservation")):
            found |= {
                f"compute.{collection}.get": lambda call, c=collection, k=kind: dict(
                    self._store.get(key_of_call(call, c, k))
                ),
                f"compute.{collection}.list": lambda call, c=collection, k=kind: self._list(call, c, k),
                f"compute.{collection}.aggregatedList": lambda call, c=collection, k=kind: aggregated(
                    call, k, c, self._store.scopes(PROJECT, c), [f"zones/{zone}" for zone in ZONES]
                ),
            }
        return found

    def _list(self, call: Call, collection: str, kind: str) -> dict[str, Any]:
        key = f"projects/{PROJECT}/zones/{call.path['zone']}/{collection}"
        return list_of(call, kind, key, self._store.collection(key))

    # ------------------------------------------------------------ for instances

    def checked(self, affinity: Resource, zone: str, where: str) -> Resource:
        """An instance's affinity; raises Refusal."""
        kind = affinity.get("consumeReservationType", "ANY_RESERVATION")
        if kind != "SPECIFIC_RESERVATION":
            if affinity.get("key") or affinity.get("values"):
                raise invalid(where, kind, "Key and values are only for SPECIFIC_RESERVATION.")
            return {"consumeReservationType": kind}
        values = affinity.get("values", [])
        if affinity.get("key") != NAME_KEY or len(values) != 1:
            raise invalid(where, kind, f"A specific reservation needs the key {NAME_KEY} and one value.")
        found = self._named(values[0], zone)
        if found is None:
            raise invalid(where, kind, f"Specified reservations [{values[0]}] do not exist.")
        if not found["specificReservationRequired"]:
            message = (
                f"Specified reservations [{values[0]}] can not be targeted as specificReservationRequired is not set"
            )
            raise invalid(where, kind, message)
        return affinity

    def consumed(self, body: Resource, zone: str, market: str, count: int) -> Resource | None:
        """Which reservation `count` such instances come out of, None for none; raises Failure where the one that is named has
        not enough."""
        affinity = body.get("reservationAffinity", {})
        kind = affinity.get("consumeReservationType", "ANY_RESERVATION")
        if kind == "NO_RESERVATION" or market in ("spot", "flex-start"):
            return None
        if kind == "SPECIFIC_RESERVATION":
            name = affinity["values"][0]
            found = self._named(name, zone)
            if found is None:
                raise _condition(f"Specified reservation {name} does not exist")
            if found["status"] != "READY":
                raise _condition(
                    f"Cannot insert instance to a reservation with status: {found['status']}, as it requires reservation to be "
                    "in READY state."
                )
            if not _matches(found, body):
                raise _condition("No available resources in specified reservations")
            if _free(found) < count:
                raise _condition(f"Specified reservation '{name}' does not have available resources for the request.")
            return found
        for each in self._store.collection(f"projects/{PROJECT}/zones/{zone}/reservations"):
            if (
                not each["specificReservationRequired"]
                and each["status"] == "READY"
                and _matches(each, body)
                and _free(each) >= count
            ):
                return each
        return None

    def use(self, reservation: Resource, change: int) -> None:
        specific = reservation["specificReservation"]
        specific["inUseCount"] = str(int(specific["inUseCount"]) + change)

    def _named(self, name: str, zone: str) -> Resource | None:
        """By its name, or as projects/P/reservations/NAME."""
        parts = name.split("/")
        project = parts[1] if len(parts) > 1 else PROJECT
        return self._store.find(f"projects/{project}/zones/{zone}/reservations/{parts[-1]}")

    # ------------------------------------------------------------ methods

    def _insert(self, call: Call) -> dict[str, Any]:
        """What is reserved is taken from what the zone has."""
        body, zone = call.body, call.path["zone"]
        for member in ("name", "specificReservation"):
            if member not in body:
                raise required(f"resource.{member}")
        specific = body["specificReservation"]
        count, name = int(specific.get("count", 0)), specific.get("instanceProperties", {}).get("machineType", "")
        machine = machine_type(name)
        if machine is None or count < 1:
            raise invalid("resource.specificReservation", name, "It needs a count and a machine type.")
        key = f"projects/{PROJECT}/zones/{zone}/reservations/{body['name']}"
        if self._store.find(key):
            raise already_exists(key)
        self._store.add(key, "reservation", {
            "specificReservationRequired": False, **body, "status": "READY",
            "specificReservation": {**specific, "inUseCount": "0", "assuredCount": str(count)},
        })  # fmt: skip

        def finish() -> None:
            self._world.take(name, zone, "on-demand", machine.vcpus, count, count)

        return self._operations.begin(call, "insert", key, finish, undo=lambda: self._store.remove(key))

    def _delete(self, call: Call) -> dict[str, Any]:
        key = key_of_call(call, "reservations", "reservation")
        found = self._store.get(key)
        if int(found["specificReservation"]["inUseCount"]) and found["specificReservationRequired"]:
            raise in_use(key, "instances that consume it")

        def finish() -> None:
            specific = found["specificReservation"]
            name = specific["instanceProperties"]["machineType"]
            machine = machine_type(name)
            self._world.give_back(name, call.path["zone"], "on-demand", machine.vcpus if machine else 0, _free(found))
            self._store.remove(key)

        return self._operations.begin(call, "delete", key, finish)

    def _resize(self, call: Call) -> dict[str, Any]:
        key = key_of_call(call, "reservations", "reservation")
        specific = self._store.get(key)["specificReservation"]
        count = call.body.get("specificSkuCount")
        if count is None or int(count) < int(specific["inUseCount"]):
            raise invalid("specificSkuCount", str(count), "It must be a number that is not below what is in use.")
        return self._operations.begin(call, "resize", key, lambda: specific.update(count=count, assuredCount=count))

    def _promise(self, call: Call) -> dict[str, Any]:
        body = call.body
        for member in ("name", "timeWindow", "specificSkuProperties"):
            if member not in body:
                raise required(f"resource.{member}")
        key = f"projects/{PROJECT}/zones/{call.path['zone']}/futureReservations/{body['name']}"
        if self._store.find(key):
            raise already_exists(key)
        state = "PENDING_APPROVAL" if body.get("planningStatus") == "SUBMITTED" else "DRAFTING"
        self._store.add(key, "futureReservation", {
            "planningStatus": "DRAFT", **body, "status": {"procurementStatus": state},
        })  # fmt: skip
        return self._operations.begin(call, "insert", key, undo=lambda: self._store.remove(key))

    def _break(self, call: Call) -> dict[str, Any]:
        key = key_of_call(call, "futureReservations", "futureReservation")
        state = self._store.get(key)["status"]["procurementStatus"]
        if state in ("COMMITTED", "PROVISIONING", "FULFILLED"):
            raise Refusal(400, "invalid", f"A future reservation in state {state} cannot be deleted.")
        return self._operations.begin(call, "delete", key, lambda: self._store.remove(key))


def _matches(reservation: Resource, body: Resource) -> bool:
    wanted = reservation["specificReservation"]["instanceProperties"]
    devices = {
        each["acceleratorType"].rpartition("/")[2]: int(each["acceleratorCount"])
        for each in wanted.get("guestAccelerators", [])
    }
    own = {
        each["acceleratorType"].rpartition("/")[2]: int(each["acceleratorCount"])
        for each in body.get("guestAccelerators", [])
    }
    return bool(body["machineType"].rpartition("/")[2] == wanted["machineType"]) and (
        not devices or not own or devices == own
    )


def _free(reservation: Resource) -> int:
    specific = reservation["specificReservation"]
    return int(specific["count"]) - int(specific["inUseCount"])


def _condition(message: str) -> Failure:
    return Failure("CONDITION_NOT_MET", message, 412, "PRECONDITION FAILED")
