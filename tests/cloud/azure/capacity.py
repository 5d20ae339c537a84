"""Whether there is room for a machine, in Azure's words where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tests.cloud.azure.machine import Machine
from tests.cloud.azure.store import Resource, Store
from tests.cloud.azure.world import Failure, Refusal, World

GROUP = "Microsoft.Compute/capacityReservationGroups"
RESERVATION = f"{GROUP}/capacityReservations"


class Capacity:
    def __init__(self, world: World, store: Store, machines: Callable[[], Iterable[Machine]]) -> None:
        self._world, self._store, self._machines = world, store, machines

    def refusal(self, machine: Machine) -> Failure | None:
        """None where there is room, in its reservation or for everybody."""
        if self._reserved(machine):
            return None
        if self._world.free(machine.size.name, machine.zone, machine.market) >= 1:
            return None
        if machine.properties.get("proximityPlacementGroup") or machine.properties.get("availabilitySet"):
            return _overconstrained(machine.zone)
        return self._world.no_capacity(machine.size.name, machine.zone)

    def take(self, machine: Machine) -> None:
        if machine.holds:
            return
        machine.holds = True
        if found := self._reserved(machine):
            machine.reservation = found["id"]
        else:
            self._world.give_back(machine.size.name, machine.zone, machine.market, 0, -1)

    def give_back(self, machine: Machine) -> None:
        if not machine.holds:
            return
        machine.holds = False
        if machine.reservation:
            machine.reservation = ""
        else:
            self._world.give_back(machine.size.name, machine.zone, machine.market, 0)

    # ------------------------------------------------------------ reservations

    def check_reservation(self, machine: Machine) -> None:
        """Raises Refusal for a group that is not there, or has nothing of this kind."""
        link = _group(machine)
        if not link:
            return
        found = self._store.find(link)
        if found is None:
            raise Refusal(404, "NotFound", f"Resource {link} not found.")
        if not self._fitting(machine):
            message = (
                f"The VM '{machine.name}' cannot be associated with the capacity reservation group '{link}': it has no "
                "reservation "
                f"of the size '{machine.size.name}' in zone '{machine.zone}'."
            )
            raise Refusal(409, "OperationNotAllowed", message)

    def _fitting(self, machine: Machine) -> list[Resource]:
        return [
            r for r in self._store.children(_group(machine), RESERVATION)
            if r["sku"]["name"].lower() == machine.size.name.lower() and (r.get("zones") or [""])[0] == machine.zone
        ]  # fmt: skip

    def _reserved(self, machine: Machine) -> Resource | None:
        """A reservation with room left. More machines than it has room for are served as if they had none."""
        if not _group(machine):
            return None
        for found in self._fitting(machine):
            if len(self.users(found["id"])) < int(found["sku"].get("capacity") or 0):
                return found
        return None

    def users(self, id_: str) -> list[Machine]:
        """Machines that have the capacity of a reservation."""
        return [m for m in self._machines() if m.reservation == id_]


def _group(machine: Machine) -> str:
    link: Any = (machine.properties.get("capacityReservation") or {}).get("capacityReservationGroup") or {}
    return str(link.get("id", ""))


def _overconstrained(zone: str) -> Failure:
    kind = "OverconstrainedZonalAllocationRequest" if zone else "OverconstrainedAllocationRequest"
    return Failure(
        kind,
        "Allocation failed. VM(s) with the following constraints cannot be allocated, because the condition is too restrictive. "
        "Please remove some constraints and try again. Constraints applied are:\n  - Availability Set or Proximity "
        "Placement Group"
        "\n  - VM Size\n",
    )
