"""Bastion hosts: each stands in the subnet of that name, and has tunnels where its SKU and its settings say so."""

from __future__ import annotations

from typing import Any

from tests.cloud.azure.services import Behaviour, Call, Services
from tests.cloud.azure.store import Resource, Store
from tests.cloud.azure.world import Refusal, missing_reference

BASTION = "Microsoft.Network/bastionHosts"
WITH_TUNNELS = ("Standard", "Premium")


class Bastions(Behaviour):
    def __init__(self, store: Store, services: Services) -> None:
        self._store = store
        services.behave(BASTION, self)

    def check(self, call: Call, resource: Resource, before: Resource | None) -> None:
        properties = resource.setdefault("properties", {})
        sku = resource.setdefault("sku", {}).setdefault("name", "Basic")
        if properties.get("enableTunneling") and sku not in WITH_TUNNELS:
            message = f"Bastion Host {resource['name']} needs the SKU Standard or Premium for enableTunneling."
            raise Refusal(400, "BastionHostSkuNotSupported", message)
        for entry in properties.get("ipConfigurations") or ():
            inner: dict[str, Any] = entry.get("properties") or {}
            subnet = (inner.get("subnet") or {}).get("id", "")
            if not subnet.lower().endswith("/subnets/azurebastionsubnet"):
                message = f"Bastion Host {resource['name']} must be in a subnet that is named AzureBastionSubnet."
                raise Refusal(400, "BastionHostSubnetNameInvalid", message)
            for link in (subnet, (inner.get("publicIPAddress") or {}).get("id", "")):
                if self._store.find(link) is None:
                    raise missing_reference(link, resource["id"])
        properties["dnsName"] = f"bst-{resource['name']}.bastion.azure.com"
