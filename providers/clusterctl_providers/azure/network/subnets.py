"""Which subnet nodes are put into, where the settings name a virtual network of the user's: one that is for machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from clusterctl.core.errors import AuthFailed, BadRequest, ProviderError
from clusterctl_providers.azure.calls import Calls, last_part
from clusterctl_providers.azure.errors import is_missing

# Azure keeps these names for what it puts there itself, and refuses machines.
RESERVED = frozenset({
    "gatewaysubnet", "azurebastionsubnet", "azurefirewallsubnet", "azurefirewallmanagementsubnet", "routeserversubnet",
})  # fmt: skip
USUAL = "default"  # as Azure's own pages call the first one of a network
_FIX = "name another `subnet` of `provider: {azure: ...}`"


@dataclass(frozen=True)
class Subnet:
    id: str
    network: str  # the id of its virtual network


class Subnets:
    """Those of a virtual network of the user's. `network` and `subnet` are the settings, or "": a name in the resource group
    whose id is `group`, or an id."""

    def __init__(self, calls: Calls, group: str, network: str, subnet: str) -> None:
        self._calls = calls
        if subnet.startswith("/"):
            network = subnet.rpartition("/")[0].rpartition("/")[0]
        whole = f"{group}/providers/Microsoft.Network/virtualNetworks/{network}"
        self.network = network if network.startswith("/") else whole
        self._wanted = last_part(subnet)

    def read(self) -> dict[str, Any]:
        """The virtual network, as Azure shows it."""
        name, what = last_part(self.network), f"looking for the virtual network {last_part(self.network)}"
        try:
            found = self._calls.get(self.network, what)
        except ProviderError as error:
            if is_missing(error):
                raise BadRequest(
                    f"{what}: there is none ({self.network}); mend `network` of `provider: {{azure: ...}}`, write its id where "
                    "it is in another resource group, or leave it out, and the cluster gets one of its own"
                ) from error.__cause__
            raise
        if str(found.get("location")).lower() != self._calls.region:
            raise BadRequest(
                f"the virtual network {name} is in {found.get('location')}, and machines in {self._calls.region} need one there: "
                "name another `network`, or the region of this one"
            )
        return found

    def choose(self) -> Subnet:
        """The one that is named, else `default`, else the largest that is for machines and has room."""
        rows: list[dict[str, Any]] = list((self.read().get("properties") or {}).get("subnets") or ())
        if self._wanted:
            return self._named(rows)
        fit = [row for row in rows if not why_unfit(row)]
        if not fit:
            told = "; ".join(f"{row['name']} {why_unfit(row)}" for row in rows) or "it has none"
            raise BadRequest(
                f"the virtual network {last_part(self.network)} has no subnet for machines ({told}); make one (`az network vnet "
                f"subnet create --name default --vnet-name {last_part(self.network)} ...`), or name another `network`"
            )
        room = self.room()
        fit.sort(key=lambda row: (room.get(_key(row), 1) <= 0, row["name"] != USUAL, _length(row), row["name"]))
        return Subnet(str(fit[0]["id"]), self.network)

    def _named(self, rows: list[dict[str, Any]]) -> Subnet:
        found = next((row for row in rows if str(row["name"]).lower() == self._wanted.lower()), None)
        name = last_part(self.network)
        if found is None:
            there = ", ".join(sorted(str(row["name"]) for row in rows)) or "none"
            raise BadRequest(
                f"the virtual network {name} has no subnet {self._wanted!r} (it has {there}): mend `subnet` of `provider: "
                "{azure: ...}`, or leave it out"
            )
        if why := why_unfit(found):
            raise BadRequest(f"the subnet {self._wanted} of {name} {why}: {_FIX}")
        return Subnet(str(found["id"]), self.network)

    def room(self) -> dict[str, int]:
        """By the id of a subnet in small letters, how many addresses nobody has; nothing where that is not to be known."""
        what = f"counting the addresses of {last_part(self.network)}"
        try:
            rows = self._calls.list(f"{self.network}/usages", what)
        except AuthFailed:
            return {}
        return {_key(row): int(row["limit"]) - int(row["currentValue"]) for row in rows if _is_count(row)}

    def ranges(self) -> list[str]:
        """CIDRs of the network, and of those that are peered with it."""
        properties = self.read().get("properties") or {}
        found = _prefixes(properties.get("addressSpace"))
        for peering in properties.get("virtualNetworkPeerings") or ():
            found += _prefixes((peering.get("properties") or {}).get("remoteAddressSpace"))
        return found


def why_unfit(row: Mapping[str, Any]) -> str:
    """Why a subnet takes no machines, for "the subnet X ..."; "" for one that does."""
    properties = row.get("properties") or {}
    if str(row.get("name")).lower() in RESERVED:
        return "is for what Azure puts there itself"
    if delegations := properties.get("delegations"):
        services = [str((each.get("properties") or {}).get("serviceName")) for each in delegations]
        return f"is delegated to {' and '.join(services)}, which puts its own machines there"
    if not _prefixes({"addressPrefixes": _of_subnet(properties)}):
        return "has no IPv4 addresses"
    return ""


def _of_subnet(properties: Mapping[str, Any]) -> list[str]:
    return list(properties.get("addressPrefixes") or filter(None, [properties.get("addressPrefix")]))


def _prefixes(space: Mapping[str, Any] | None) -> list[str]:
    """IPv4 ones."""
    return [str(prefix) for prefix in (space or {}).get("addressPrefixes") or () if ":" not in str(prefix)]


def _length(row: Mapping[str, Any]) -> int:
    return min(ip_network(p).prefixlen for p in _prefixes({"addressPrefixes": _of_subnet(row["properties"])}))


def _key(row: Mapping[str, Any]) -> str:
    return str(row["id"]).lower()


def _is_count(row: Mapping[str, Any]) -> bool:
    return row.get("limit") is not None and row.get("currentValue") is not None
