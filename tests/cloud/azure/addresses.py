"""Public addresses, and the NAT gateways that have one."""

from __future__ import annotations

import itertools
from ipaddress import IPv4Address
from typing import Any

from tests.cloud.azure.services import Behaviour, Call, Services
from tests.cloud.azure.store import Resource, Store, copied, name_of
from tests.cloud.azure.world import Refusal, missing_reference
from tests.cloud.machines import NETWORK

ADDRESS, GATEWAY = "Microsoft.Network/publicIPAddresses", "Microsoft.Network/natGateways"
FIRST = int(IPv4Address(f"20.{NETWORK.partition('.')[2]}.0.4"))  # no other process's machines have those


class Addresses(Behaviour):
    """Of public addresses."""

    def __init__(self, store: Store, services: Services) -> None:
        self._store = store
        self._numbers = itertools.count(FIRST)
        services.behave(ADDRESS, self)
        services.behave(GATEWAY, Gateways(store))

    def check(self, call: Call, resource: Resource, before: Resource | None) -> None:
        properties = resource.setdefault("properties", {})
        if (resource.setdefault("sku", {}).setdefault("name", "Standard")) == "Basic":
            message = f"Public IP address {resource['name']} has the Basic SKU, which is retired: use Standard."
            raise Refusal(400, "BasicSkuPublicIpNotSupported", message)
        resource["sku"].setdefault("tier", "Regional")
        if properties.setdefault("publicIPAllocationMethod", "Static") != "Static":
            message = f"Standard SKU publicIp {resource['id']} must have AllocationMethod set to Static."
            raise Refusal(400, "StandardSkuPublicIPMustBeStatic", message)
        properties.setdefault("publicIPAddressVersion", "IPv4")
        properties["ipAddress"] = before["properties"]["ipAddress"] if before else self._next()

    def _next(self) -> str:
        return ".".join(str(byte) for byte in next(self._numbers).to_bytes(4, "big"))

    def make(self, call: Call, resource: Resource) -> Resource:
        """One that a machine makes for its card."""
        resource = {"type": ADDRESS, "etag": self._store.etag(), **copied(resource)}
        self.check(call, resource, None)
        resource["properties"]["provisioningState"] = "Succeeded"
        self._store.put(resource)
        return resource

    def check_delete(self, call: Call | None, resource: Resource) -> None:
        user = next(iter(self._store.referring(resource["id"])), None)
        if user is not None:
            raise Refusal(
                400, "PublicIPAddressCannotBeDeleted",
                f"Public IP address {resource['id']} can not be deleted since it is still allocated to resource {user['id']}.",
            )  # fmt: skip

    def view(self, resource: Resource, query: Any) -> None:
        for user in self._store.referring(resource["id"]):
            if user["type"] == GATEWAY:
                resource["properties"]["natGateway"] = {"id": user["id"]}
                continue
            for entry in user.get("properties", {}).get("ipConfigurations") or ():
                link = ((entry.get("properties") or {}).get("publicIPAddress") or {}).get("id", "")
                if link.lower() == resource["id"].lower():
                    resource["properties"]["ipConfiguration"] = {"id": f"{user['id']}/ipConfigurations/{entry['name']}"}


class Gateways(Behaviour):
    """Of NAT gateways."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def check(self, call: Call, resource: Resource, before: Resource | None) -> None:
        if (resource.get("sku") or {}).get("name") not in ("Standard", "StandardV2"):
            raise Refusal(400, "NatGatewaySkuNotSpecified", f"NAT gateway {resource['name']} needs the SKU Standard.")
        for link in resource["properties"].get("publicIpAddresses") or ():
            address = self._store.find(link["id"])
            if address is None or address["location"] != resource["location"]:
                raise missing_reference(link["id"], resource["id"])
            call.need_linked("Microsoft.Network/publicIPAddresses/join/action", address["id"])
            others = [r for r in self._store.referring(address["id"]) if r["id"].lower() != resource["id"].lower()]
            if others:
                message = (
                    f"Public IP address {name_of(address['id'])} is already allocated to resource {others[0]['id']}."
                )
                raise Refusal(400, "PublicIPAddressInUse", message)

    def check_delete(self, call: Call | None, resource: Resource) -> None:
        user = next((r for r in self._store.referring(resource["id"]) if r["type"].endswith("/subnets")), None)
        if user is not None:
            message = f"NAT gateway {resource['id']} cannot be deleted because it is in use by the subnet {user['id']}."
            raise Refusal(400, "InUseNatGatewayCannotBeDeleted", message)

    def view(self, resource: Resource, query: Any) -> None:
        subnets = [r["id"] for r in self._store.referring(resource["id"]) if r["type"].endswith("/subnets")]
        if subnets:
            resource["properties"]["subnets"] = [{"id": each} for each in subnets]
