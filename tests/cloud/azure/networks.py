"""Virtual networks and their subnets: which addresses there are, and who has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, ip_network
from typing import Any

from tests.cloud.azure.services import Behaviour, Call, Services
from tests.cloud.azure.store import Resource, Store, parent_of
from tests.cloud.azure.world import Refusal, missing_reference

NETWORK, SUBNET = "Microsoft.Network/virtualNetworks", "Microsoft.Network/virtualNetworks/subnets"
BASTION = "Microsoft.Network/bastionHosts"
CARD = "Microsoft.Network/networkInterfaces"
KEPT = 4  # addresses at the beginning of each subnet that Azure keeps, and one at its end
RESERVED = ("gatewaysubnet", "azurebastionsubnet", "azurefirewallsubnet", "routeserversubnet")


class Networks(Behaviour):
    """Of virtual networks."""

    children: Mapping[str, str] = {"subnets": "subnets", "virtualNetworkPeerings": "virtualNetworkPeerings"}

    def __init__(self, store: Store, services: Services) -> None:
        self._store = store
        self.subnets = Subnets(store)
        services.behave(NETWORK, self)
        services.behave(SUBNET, self.subnets)
        services.behave("Microsoft.Network/virtualNetworks/virtualNetworkPeerings", Peerings(store))
        services.on("virtualNetworks.listUsage", self._usages)
        services.on("virtualNetworks.checkIpAddressAvailability", self._is_available)

    def check(self, call: Call, resource: Resource, before: Resource | None) -> None:
        properties = resource["properties"]
        spaces = _networks((properties.get("addressSpace") or {}).get("addressPrefixes") or ())
        if not spaces:
            raise Refusal(400, "AddressSpaceNotSpecified", f"Virtual network {resource['name']} has no address space.")
        ranges: list[IPv4Network] = []
        for entry in properties.get("subnets") or ():
            for network in _networks(prefixes_of(entry)):
                _check_range(entry["name"], network, spaces, ranges)
                ranges.append(network)

    def check_delete(self, call: Call | None, resource: Resource) -> None:
        for subnet in self._store.children(resource["id"], SUBNET):
            self.subnets.check_delete(call, subnet)

    # ------------------------------------------------------------ questions

    def _usages(self, call: Call) -> dict[str, Any]:
        found = self._store.get(call.id.rpartition("/")[0])
        rows = []
        for subnet in self._store.children(found["id"], SUBNET):
            total = sum(network.num_addresses for network in self.subnets.ranges(subnet))
            used = len(self.subnets.taken(subnet))
            rows.append({
                "currentValue": float(used), "id": subnet["id"], "limit": float(total - KEPT - 1), "unit": "Count",
                "name": {"localizedValue": "Subnet size and usage", "value": "SubnetSpace"},
            })  # fmt: skip
        return {"value": rows}

    def _is_available(self, call: Call) -> dict[str, Any]:
        found = self._store.get(call.id.rpartition("/")[0])
        wanted = IPv4Address(call.query["ipAddress"])
        for subnet in self._store.children(found["id"], SUBNET):
            if any(wanted in network for network in self.subnets.ranges(subnet)):
                free = wanted in self.subnets.free(subnet)
                others = (
                    [] if free else [str(each) for each, _ in zip(self.subnets.free(subnet), range(5), strict=False)]
                )
                return {"available": free, "availableIPAddresses": others, "isPlatformReserved": False}
        message = f"IP address {wanted} does not belong to any subnet of virtual network {found['name']}."
        raise Refusal(400, "PrivateIPAddressNotInAnySubnet", message)


class Subnets(Behaviour):
    located = False

    def __init__(self, store: Store) -> None:
        self._store = store
        self._taken: dict[str, dict[int, str]] = {}  # subnet, in small letters -> address -> id of the card that has it

    def check(self, call: Call, resource: Resource, before: Resource | None) -> None:
        network = self._store.find(parent_of(resource["id"]))
        ranges = _networks(prefixes_of(resource))
        if not ranges:
            raise Refusal(400, "SubnetAddressPrefixNotSpecified", f"Subnet {resource['name']} has no address prefix.")
        if before and self.ranges(before) != ranges and self.taken(before):
            raise self._in_use(before)
        properties = resource["properties"]
        for member, kind in (("natGateway", "NAT gateway"), ("networkSecurityGroup", "group"), ("routeTable", "table")):
            link = (properties.get(member) or {}).get("id")
            if link and self._store.find(link) is None:
                raise missing_reference(link, resource["id"])
            if link and kind == "NAT gateway":
                call.need_linked("Microsoft.Network/natGateways/join/action", link)
        if network is not None and call.route.template.lower().endswith("}/subnets/{subnetname}"):
            spaces = _networks((network["properties"].get("addressSpace") or {}).get("addressPrefixes") or ())
            others = [s for s in self._store.children(network["id"], SUBNET) if s["id"] != resource["id"]]
            taken = [each for other in others for each in self.ranges(other)]
            for each in ranges:
                _check_range(resource["name"], each, spaces, taken)

    def check_delete(self, call: Call | None, resource: Resource) -> None:
        if self.taken(resource):
            raise self._in_use(resource)

    def _in_use(self, subnet: Resource) -> Refusal:
        user = next((card["id"] for card, _ in self.users(subnet)), "")
        return Refusal(
            400, "InUseSubnetCannotBeDeleted",
            f"Subnet {subnet['name']} is in use by {user} and cannot be deleted. In order to delete the subnet, delete all the "
            "resources within the subnet. See aka.ms/deletesubnet.",
        )  # fmt: skip

    def view(self, resource: Resource, query: Any) -> None:
        users = [{"id": f"{card['id']}/ipConfigurations/{entry['name']}"} for card, entry in self.users(resource)]
        if users:
            resource["properties"]["ipConfigurations"] = users

    # ------------------------------------------------------------ addresses

    def ranges(self, subnet: Resource) -> list[IPv4Network]:
        return _networks(prefixes_of(subnet))

    def hold(self, card: Resource) -> None:
        """The addresses of a network card are taken, instead of those that it had."""
        self.let_go(card)
        for entry in card["properties"].get("ipConfigurations") or ():
            properties = entry["properties"]
            if address := properties.get("privateIPAddress"):
                key = properties["subnet"]["id"].lower()
                self._taken.setdefault(key, {})[int(IPv4Address(address))] = card["id"]

    def let_go(self, card: Resource) -> None:
        for taken in self._taken.values():
            for number in [number for number, holder in taken.items() if holder == card["id"]]:
                del taken[number]

    def users(self, subnet: Resource) -> Iterator[tuple[Resource, dict[str, Any]]]:
        """Network cards with an address of it, and their entry that has it."""
        for id_ in set(self._taken.get(subnet["id"].lower(), {}).values()):
            card = self._store.get(id_)
            for entry in card["properties"].get("ipConfigurations") or ():
                if (entry["properties"].get("subnet") or {}).get("id", "").lower() == subnet["id"].lower():
                    yield card, entry

    def taken(self, subnet: Resource) -> set[int]:
        taken = set(self._taken.get(subnet["id"].lower(), ()))
        if self._store.of_type(BASTION) and self._store.referring(subnet["id"], BASTION):
            taken |= {int(self.ranges(subnet)[0][number]) for number in (KEPT, KEPT + 1)}
        return taken

    def free(self, subnet: Resource) -> Iterator[IPv4Address]:
        """The lowest first, as Azure gives them away."""
        taken = self.taken(subnet)
        for network in self.ranges(subnet):
            first = int(network.network_address)
            for number in range(first + KEPT, first + network.num_addresses - 1):
                if number not in taken:
                    yield IPv4Address(number)


class Peerings(Behaviour):
    located = False

    def __init__(self, store: Store) -> None:
        self._store = store

    def check(self, call: Call, resource: Resource, before: Resource | None) -> None:
        link = (resource["properties"].get("remoteVirtualNetwork") or {}).get("id", "")
        remote = self._store.find(link)
        if remote is None:
            raise missing_reference(link, resource["id"])
        resource["properties"]["remoteAddressSpace"] = remote["properties"]["addressSpace"]


def prefixes_of(subnet: dict[str, Any]) -> list[str]:
    properties = subnet.get("properties") or {}
    one = properties.get("addressPrefix")
    return [*(properties.get("addressPrefixes") or ()), *([one] if one else [])]


def _networks(prefixes: Any) -> list[IPv4Network]:
    found = []
    for prefix in prefixes:
        try:
            network = ip_network(prefix)
        except ValueError:
            raise Refusal(
                400, "InvalidCIDRNotation", f"The address prefix {prefix} has an invalid CIDR notation."
            ) from None
        if isinstance(network, IPv4Network):
            found.append(network)
    return found


def _check_range(name: str, network: IPv4Network, spaces: list[IPv4Network], taken: list[IPv4Network]) -> None:
    if network.prefixlen > 29:
        raise Refusal(400, "NetcfgInvalidSubnet", f"Subnet '{name}' is not valid: a /{network.prefixlen} is too small.")
    if not any(network.subnet_of(space) for space in spaces):
        message = f"Subnet '{name}' is not valid because its IP address range is outside the IP address range of virtual network."
        raise Refusal(400, "NetcfgSubnetRangeOutsideVnet", message)
    if any(network.overlaps(other) for other in taken):
        message = f"Subnet '{name}' is not valid because its IP address range overlaps with that of an existing subnet."
        raise Refusal(400, "NetcfgSubnetRangesOverlap", message)
