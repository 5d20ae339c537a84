"""Resource policies of the pretended Compute Engine: how close together instances stand."""

from __future__ import annotations

from typing import Any

from tests.cloud.gcp.compute import Compute
from tests.cloud.gcp.facts import REGIONS, MachineType
from tests.cloud.gcp.lists import aggregated, list_of
from tests.cloud.gcp.operations import key_of_call
from tests.cloud.gcp.services import Call, Handler
from tests.cloud.gcp.store import BASE, Resource, Store, key_of, key_of_link
from tests.cloud.gcp.world import PROJECT, Refusal, already_exists, in_use, invalid

_NEVER_CLOSE = ("e2", "f1", "g1", "n1", "t2d", "t2a")  # families that compact placement does not know
_KINDS = (
    "groupPlacementPolicy", "snapshotSchedulePolicy", "instanceSchedulePolicy", "diskConsistencyGroupPolicy", "workloadPolicy",
)  # fmt: skip


class Policies:
    def __init__(self, compute: Compute) -> None:
        self._store, self._operations = compute.store, compute.operations

    def handlers(self) -> dict[str, Handler]:
        return {
            "compute.resourcePolicies.get": lambda call: dict(
                self._store.get(key_of_call(call, "resourcePolicies", "resourcePolicy"))
            ),
            "compute.resourcePolicies.list": self._list,
            "compute.resourcePolicies.aggregatedList": lambda call: aggregated(
                call, "resourcePolicy", "resourcePolicies", self._store.scopes(PROJECT, "resourcePolicies"),
                [f"regions/{region}" for region in REGIONS],
            ),
            "compute.resourcePolicies.insert": self._insert,
            "compute.resourcePolicies.delete": self._delete,
        }  # fmt: skip

    def _list(self, call: Call) -> dict[str, Any]:
        key = f"projects/{PROJECT}/regions/{call.path['region']}/resourcePolicies"
        return list_of(call, "resourcePolicy", key, self._store.collection(key))

    def _insert(self, call: Call) -> dict[str, Any]:
        body = call.body
        if "name" not in body:
            raise invalid("resource.name", "", "A name is required.")
        if sum(kind in body for kind in _KINDS) != 1:
            raise invalid("resource", "", "Exactly one kind of policy must be set.")
        placement = body.get("groupPlacementPolicy", {})
        if placement.get("collocation") and placement.get("availabilityDomainCount"):
            raise Refusal(400, "invalid", "Collocation and availability domains cannot be set together.")
        key = f"projects/{PROJECT}/regions/{call.path['region']}/resourcePolicies/{body['name']}"
        if self._store.find(key):
            raise already_exists(key)
        self._store.add(key, "resourcePolicy", {**body, "status": "READY"})
        return self._operations.begin(call, "insert", key, undo=lambda: self._store.remove(key))

    def _delete(self, call: Call) -> dict[str, Any]:
        key = key_of_call(call, "resourcePolicies", "resourcePolicy")
        self._store.get(key)
        if users := users_of(self._store, key):
            raise in_use(key, users[0])
        return self._operations.begin(call, "delete", key, lambda: self._store.remove(key))


def users_of(store: Store, policy: str) -> list[str]:
    return [
        key_of_link(instance["selfLink"])
        for instance in store.every("instances")
        if BASE + policy in instance.get("resourcePolicies", [])
    ]


def placed(store: Store, wanted: list[str], region: str, machine: MachineType, bare: bool, where: str) -> list[str]:
    """The links of an instance's policies; raises Refusal. `bare`: by name."""
    if len(wanted) > 1:
        raise invalid(where, wanted[1], "At most one placement policy is allowed for an instance.")
    links: list[str] = []
    for number, text in enumerate(wanted):
        here = f"{where}[{number}]"
        if bare and "/" in text:
            raise invalid(here, text, "Must be the name of a resource policy, not a URL.")
        key = f"projects/{PROJECT}/regions/{region}/resourcePolicies/{text}" if bare else key_of(text, PROJECT, here)
        found: Resource | None = store.find(key)
        if found is None or key.split("/")[3] != region:
            raise invalid(here, text, "The referenced resource policy cannot be found.")
        if found.get("groupPlacementPolicy", {}).get("collocation") and machine.family in _NEVER_CLOSE:
            message = f"Machine type {machine.name} is not supported with a compact placement policy."
            raise Refusal(400, "invalid", message)
        most = found.get("groupPlacementPolicy", {}).get("vmCount")
        if most and len(users_of(store, key)) >= most:
            raise Refusal(400, "invalid", f"The resource policy '{key}' has its {most} VMs already.")
        links.append(BASE + key)
    return links
