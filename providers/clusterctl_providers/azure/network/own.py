"""A virtual network of the cluster's own: one subnet, with a NAT gateway as its way to the internet where the settings want one.

In such a subnet nothing gets out by itself (`defaultOutboundAccess`): Azure gives new networks no such way any more, and one that
nobody chose has an address that nobody knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from clusterctl.core.errors import ProviderError
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.errors import is_missing
from clusterctl_providers.azure.network.group import ResourceGroup
from clusterctl_providers.azure.network.subnets import Subnet

SPACE = "10.224.0.0/16"
NODES = "nodes"  # its one subnet


class OwnNetwork:
    """`part` names what is the cluster's; `nat`: whether it has a NAT gateway."""

    def __init__(self, calls: Calls, group: ResourceGroup, part: Callable[..., str], space: str, *, nat: bool) -> None:
        self._calls, self._group, self._part, self._space, self._nat = calls, group, part, space or SPACE, nat

    @property
    def id(self) -> str:
        return self._path("virtualNetworks", "network")

    @property
    def ranges(self) -> list[str]:
        return [self._space]

    def ensure(self) -> Subnet:
        """Makes what is missing; a gateway that the settings no longer want is taken from the subnet, and removed."""
        gateway = self._make_gateway() if self._nat else ""
        found = self._find(self.id, "virtual network")
        if found is None:
            subnet = {"name": NODES, "properties": self._subnet(self._space, gateway)}
            space = {"addressSpace": {"addressPrefixes": [self._space]}, "subnets": [subnet]}
            self._make(self.id, "virtual network", space)
        else:
            self._mend(found, gateway)
        if not gateway:
            self._remove_gateway()
        return Subnet(f"{self.id}/subnets/{NODES}", self.id)

    def _subnet(self, prefix: str, gateway: str) -> dict[str, Any]:
        plain: dict[str, Any] = {"addressPrefix": prefix, "defaultOutboundAccess": False}
        return {**plain, "natGateway": {"id": gateway}} if gateway else plain

    def _mend(self, network: Mapping[str, Any], gateway: str) -> None:
        rows = (network.get("properties") or {}).get("subnets") or ()
        found = next((row for row in rows if row.get("name") == NODES), None)
        has = str((((found or {}).get("properties") or {}).get("natGateway") or {}).get("id") or "")
        if found is None or has.lower() != gateway.lower():
            # as it is known: a network written as a whole loses the subnets that it does not name
            properties = (found or {}).get("properties") or {}
            prefix = properties.get("addressPrefix") or next(iter(properties.get("addressPrefixes") or ()), self._space)
            body = {"properties": self._subnet(str(prefix), gateway)}
            self._calls.run("PUT", f"{self.id}/subnets/{NODES}", "mending the cluster's subnet", body)

    # ------------------------------------------------------------ its way out

    def _make_gateway(self) -> str:
        address, gateway = self._path("publicIPAddresses", "nat"), self._path("natGateways", "nat")
        standard = {"sku": {"name": "Standard"}}
        if self._find(gateway, "NAT gateway") is None:
            if self._find(address, "public address") is None:
                fixed = {"publicIPAllocationMethod": "Static", "publicIPAddressVersion": "IPv4"}
                self._make(address, "public address", fixed, **standard)
            self._make(gateway, "NAT gateway", {"publicIpAddresses": [{"id": address}]}, **standard)
        return gateway

    def _remove_gateway(self) -> None:
        for kind, thing in (("natGateways", "NAT gateway"), ("publicIPAddresses", "public address")):
            path = self._path(kind, "nat")
            if self._find(path, thing) is not None:
                self._calls.run("DELETE", path, f"removing the {thing} {self._part('nat')}")

    # ------------------------------------------------------------ each of them

    def _path(self, kind: str, what: str) -> str:
        return self._group.path("Microsoft.Network", kind, self._part(what))

    def _find(self, path: str, thing: str) -> dict[str, Any] | None:
        """None for none. Raises NotOurs where it is somebody else's."""
        name = path.rpartition("/")[2]
        try:
            found = self._calls.get(path, f"looking for the {thing} {name}")
        except ProviderError as error:
            if is_missing(error):
                return None
            raise
        self._group.owner().check(found, f"a {thing} {name}")
        return found

    def _make(self, path: str, thing: str, properties: Mapping[str, Any], **more: Any) -> None:
        body = {"location": self._calls.region, "tags": self._group.tags(), **more, "properties": dict(properties)}
        self._calls.run("PUT", path, f"making the {thing} {path.rpartition('/')[2]}", body)
