"""Where machines stand: capacity that is reserved for them, close to each other, or apart. What has machines is not deleted."""

from __future__ import annotations

from collections.abc import Mapping

from tests.cloud.azure.capacity import RESERVATION, Capacity
from tests.cloud.azure.services import Behaviour, Call, Services
from tests.cloud.azure.store import Resource, Store, name_of
from tests.cloud.azure.world import Refusal, invalid

PROXIMITY, SET = "Microsoft.Compute/proximityPlacementGroups", "Microsoft.Compute/availabilitySets"
VM = "Microsoft.Compute/virtualMachines"


class Placements:
    def __init__(self, store: Store, services: Services, capacity: Capacity) -> None:
        services.behave(PROXIMITY, Proximity(store))
        services.behave(SET, Sets(store))
        services.behave(RESERVATION, Reserved(capacity))


class _Held(Behaviour):
    def __init__(self, store: Store) -> None:
        self._store = store

    def check_delete(self, call: Call | None, resource: Resource) -> None:
        held = [other["id"] for kind in (VM, SET) for other in self._store.referring(resource["id"], kind)]
        if held and call is not None:
            what = resource["type"].rpartition("/")[2]
            raise Refusal(
                409, "OperationNotAllowed",
                f"The {what} '{resource['name']}' cannot be deleted. Before deleting it please ensure that it does not contain "
                f"any resource: {', '.join(held)}",
            )  # fmt: skip


class Proximity(_Held):
    def check(self, call: Call, resource: Resource, before: Resource | None) -> None:
        intent = (resource.get("properties") or {}).get("intent") or {}
        if resource.get("zones") and not intent.get("vmSizes") and before is None:
            raise invalid("zones", "Zones are supported on a proximity placement group together with an intent only.")
        if before is not None and before.get("zones", []) != resource.get("zones", []):
            raise invalid("zones", "The zone of a proximity placement group cannot be changed.")


class Sets(_Held):
    def check(self, call: Call, resource: Resource, before: Resource | None) -> None:
        link = (resource.get("properties") or {}).get("proximityPlacementGroup")
        if link and self._store.find(link["id"]) is None:
            raise Refusal(404, "NotFound", f"Resource {link['id']} not found.")


class Reserved(Behaviour):
    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity

    def view(self, resource: Resource, query: Mapping[str, str]) -> None:
        """Whoever wants to know how much is free asks for the instance view."""
        users = [{"id": machine.resource["id"]} for machine in self._capacity.users(resource["id"])]
        if "instanceView" in query.get("$expand", ""):
            total = int(resource["sku"].get("capacity") or 0)
            used = {"currentCapacity": total, "virtualMachinesAllocated": users}
            resource["properties"]["instanceView"] = {"utilizationInfo": used, "statuses": []}

    def check_delete(self, call: Call | None, resource: Resource) -> None:
        if call is not None and self._capacity.users(resource["id"]):
            message = (
                f"The capacity reservation '{name_of(resource['id'])}' cannot be deleted: machines are allocated in it."
            )
            raise Refusal(409, "OperationNotAllowed", message)


def check_placed(resource: Resource) -> None:
    """A machine in an availability set is in no zone, and not to be taken away."""
    properties = resource["properties"]
    if not properties.get("availabilitySet"):
        return
    if resource.get("zones"):
        raise Refusal(
            400, "BadRequest",
            "Virtual machine cannot be created because both Availability Zone and Availability Set were specified. Deploying an "
            "Availability Set to an Availability Zone isn't supported.",
        )  # fmt: skip
    if properties.get("priority") == "Spot":
        raise invalid("priority", "Spot Virtual Machine is not supported in Availability Set.")
