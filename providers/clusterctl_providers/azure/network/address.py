"""The addresses of the head: a network card that outlives its machine, with a private address that nobody else is given
meanwhile, and with a public one where the head is reached by that.

A card that a machine makes for itself takes whatever address is free, and gives it back. So the head's is made before its
machine, under the machine's name. Its successor takes the same card over. Azure keeps a card for three minutes for a machine
that could not be made, and lets no other have it: the next first try of a cluster has a card of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from clusterctl.core.errors import NotYet, ProviderError
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.errors import code_behind, is_missing
from clusterctl_providers.azure.names import name_in, tags_in
from clusterctl_providers.azure.network.network import Network
from clusterctl_providers.azure.network.owner import owner_of
from clusterctl_providers.base import TAG_HEAD, AddressHolder, NetworkPlace

ADDRESS = "address"  # what the tag TAG_HEAD of such a card says
_OTHERS = frozenset({"PrivateIPAddressInUse", "PrivateIPAddressNotAvailable", "PrivateIPAddressIsAllocated"})


class HeadAddress:
    def __init__(self, calls: Calls, network: Network) -> None:
        self._calls, self._network = calls, network

    def card(self, machine: str, place: NetworkPlace | None, *, public: bool) -> str:
        """The id of the card for the machine of that name: the one that has the address of `place`, where there is a place, else
        one of its own. Raises NotYet while somebody else has that address."""
        subnet = self._network.ensure()
        here = place is not None and place.subnet.lower() == subnet.id.lower()
        wanted = NetworkPlace(subnet.id.lower(), place.private) if place and here else None
        for row in self._cards():
            if place_of(row) == wanted if wanted else name_in(str(row["id"])) == machine:
                self._check_free(row, machine)
                return self._kept(row, public)
        row = self._make(machine, subnet.id, wanted.private if wanted else "", public)
        return str(row["id"])

    def _check_free(self, row: Mapping[str, Any], machine: str) -> None:
        """Raises NotYet while a predecessor has it."""
        user = _machine_of(row)
        if user and name_in(user) != machine:
            raise NotYet(
                f"waiting for {_main(row).get('privateIPAddress')}, the head's address, which {name_in(user)} has"
            )

    def _kept(self, row: Mapping[str, Any], public: bool) -> str:
        """A successor's card has a public address where the settings want one by now."""
        address = _main(row)
        if public and not address.get("publicIPAddress"):
            name = name_in(str(row["id"]))
            self._put(name, str(address["subnet"]["id"]), str(address["privateIPAddress"]), self._make_public(name))
        return str(row["id"])

    def _make(self, name: str, subnet: str, private: str, public: bool) -> dict[str, Any]:
        """Whatever address it is given, it keeps."""
        link = self._make_public(name) if public else ""
        row = self._put(name, subnet, private, link)
        return row if private else self._put(name, subnet, str(_main(row)["privateIPAddress"]), link)

    def _put(self, name: str, subnet: str, private: str, public: str) -> dict[str, Any]:
        rules, what = self._network.rules, f"making the head's network card {name}"
        fixed = {"privateIPAllocationMethod": "Static", "privateIPAddress": private}
        address: dict[str, Any] = {
            "primary": True,
            "subnet": {"id": subnet},
            **(fixed if private else {"privateIPAllocationMethod": "Dynamic"}),
            "applicationSecurityGroups": [{"id": group} for group in rules.members(head=True)],
        }
        if public:
            address["publicIPAddress"] = {"id": public}
        body = {
            "location": self._calls.region,
            "tags": self._network.tags(**{TAG_HEAD: ADDRESS}),
            "properties": {
                "networkSecurityGroup": {"id": rules.id},
                "ipConfigurations": [{"name": "main", "properties": address}],
            },
        }
        try:
            return self._calls.run("PUT", self._path("networkInterfaces", name), what, body)
        except ProviderError as error:
            if code_behind(error) in _OTHERS:
                raise NotYet(f"waiting for {private}, the head's address: {error}") from error.__cause__
            raise

    def _make_public(self, name: str) -> str:
        path = self._path("publicIPAddresses", name)
        body = {
            "location": self._calls.region,
            "tags": self._network.tags(),
            "sku": {"name": "Standard"},
            "properties": {"publicIPAllocationMethod": "Static", "publicIPAddressVersion": "IPv4"},
        }
        self._calls.run("PUT", path, f"making the head's public address {name}", body)
        return path

    def _path(self, kind: str, name: str) -> str:
        return self._network.group.path("Microsoft.Network", kind, name)

    def _cards(self) -> Iterator[dict[str, Any]]:
        """Those that were made for heads of this cluster."""
        uid = self._network.group.owner().uid
        for row in self._in_group():
            owner = owner_of(row)
            if owner is not None and owner.uid == uid and tags_in(row).get(TAG_HEAD) == ADDRESS:
                yield row

    def _in_group(self) -> list[dict[str, Any]]:
        path = self._network.group.path("Microsoft.Network", "networkInterfaces")
        try:
            return self._calls.list(path, "looking for the head's network card")
        except ProviderError as error:
            if is_missing(error):
                return []
            raise

    # ------------------------------------------------------------ who has it

    def holder(self, place: NetworkPlace) -> AddressHolder | None:
        """A stopped machine keeps its address, and holds it. The card that is kept for the head is none, once it is free."""
        network = place.subnet.rpartition("/subnets/")[0]
        what = f"asking who has {place.private}"
        for row in self._in_group():
            if place_of(row) == place:
                return self._user(row)
        if self._is_free(network, place.private, what):
            return None
        everywhere = self._calls.path("Microsoft.Network", "networkInterfaces")
        for row in self._calls.list(everywhere, what):
            if place_of(row) == place:
                return self._user(row) or AddressHolder(str(row["id"]), ending=False)
        return AddressHolder(f"something in {place.subnet}", ending=False)

    def _is_free(self, network: str, private: str, what: str) -> bool:
        try:
            found = self._calls.get(f"{network}/checkIPAddressAvailability", what, ipAddress=private)
        except ProviderError as error:
            if is_missing(error):  # nobody has an address of a network that is gone
                return True
            raise
        return bool(found.get("available"))

    def _user(self, card: Mapping[str, Any]) -> AddressHolder | None:
        link = _machine_of(card)
        if not link:
            return None
        try:
            found = self._calls.get(link, f"looking at {name_in(link)}, which has the head's address")
        except ProviderError as error:
            if is_missing(error):
                return None
            raise
        state = str((found.get("properties") or {}).get("provisioningState") or "")
        return AddressHolder(name_in(link), state.lower() == "deleting")


def place_of(card: Mapping[str, Any]) -> NetworkPlace:
    """Comparable: ids of subnets in the case in which they were asked for vary, so they are in small letters."""
    address = _main(card)
    return NetworkPlace(
        str((address.get("subnet") or {}).get("id") or "").lower(), str(address.get("privateIPAddress") or "")
    )


def _main(card: Mapping[str, Any]) -> dict[str, Any]:
    rows = [row.get("properties") or {} for row in (card.get("properties") or {}).get("ipConfigurations") or ()]
    return next((row for row in rows if row.get("primary")), rows[0] if rows else {})


def _machine_of(card: Mapping[str, Any]) -> str:
    """The id of the machine that has it, "" for none."""
    return str(((card.get("properties") or {}).get("virtualMachine") or {}).get("id") or "")


def public_link(card: Mapping[str, Any]) -> str:
    """The id of its public address, "" for none."""
    return str((_main(card).get("publicIPAddress") or {}).get("id") or "")
