"""Network cards: each has an address of its subnet for as long as it is there, and is used by one machine at most.

Azure keeps a card that a machine which could not be made was to have, for that machine and for three minutes; nobody else gets
it meanwhile, and nobody can delete it.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

from tests.cloud.azure.addresses import ADDRESS
from tests.cloud.azure.networks import CARD, RESERVED, Subnets
from tests.cloud.azure.services import Behaviour, Call, Services
from tests.cloud.azure.store import Resource, Store, copied, name_of, parent_of
from tests.cloud.azure.world import Refusal, World, missing_reference

RESERVATION_SECONDS = 180.0


class Cards(Behaviour):
    def __init__(self, world: World, store: Store, services: Services, subnets: Subnets) -> None:
        self._world, self._store, self._services, self._subnets = world, store, services, subnets
        self._reserved: dict[
            str, tuple[str, float]
        ] = {}  # card -> (machine, until: by the world's clock), in small letters
        services.behave(CARD, self)

    # ------------------------------------------------------------ made

    def check(self, call: Call, resource: Resource, before: Resource | None) -> None:
        properties = resource.setdefault("properties", {})
        entries = properties.get("ipConfigurations") or []
        if not entries:
            message = f"Network interface {resource['name']} must have at least one IP configuration."
            raise Refusal(400, "NetworkInterfaceMustHaveOneIpConfiguration", message)
        if before and "virtualMachine" in before["properties"]:
            properties["virtualMachine"] = before["properties"]["virtualMachine"]
        self._check_links(call, resource)
        if len(entries) == 1:
            entries[0].setdefault("properties", {})["primary"] = True
        had = {e["name"]: e["properties"] for e in before["properties"]["ipConfigurations"]} if before else {}
        for entry in entries:
            entry["id"] = f"{resource['id']}/ipConfigurations/{entry['name']}"
            entry["type"] = f"{CARD}/ipConfigurations"
            self._give_address(call, resource, entry["properties"], had.get(entry["name"], {}))

    def _check_links(self, call: Call, resource: Resource) -> None:
        group = (resource["properties"].get("networkSecurityGroup") or {}).get("id")
        if group:
            self._named(group, resource)
            call.need_linked("Microsoft.Network/networkSecurityGroups/join/action", group)
        for entry in resource["properties"]["ipConfigurations"]:
            properties = entry.get("properties") or {}
            for link in properties.get("applicationSecurityGroups") or ():
                self._named(link["id"], resource)
                call.need_linked("Microsoft.Network/applicationSecurityGroups/joinIpConfiguration/action", link["id"])
            if public := (properties.get("publicIPAddress") or {}).get("id"):
                self._check_public(call, resource, public)

    def _check_public(self, call: Call, resource: Resource, link: str) -> None:
        address = self._named(link, resource)
        call.need_linked("Microsoft.Network/publicIPAddresses/join/action", link)
        users = [r for r in self._store.referring(address["id"]) if r["id"].lower() != resource["id"].lower()]
        if users:
            raise Refusal(
                400, "PublicIPAddressInUse",
                f"Resource {resource['id']} is referencing public IP address {address['id']} that is already allocated to "
                f"resource {users[0]['id']}.",
            )  # fmt: skip

    def _named(self, link: str, resource: Resource) -> Resource:
        found = self._store.find(link)
        if found is None or found.get("location") != resource.get("location"):
            raise missing_reference(link, resource["id"])
        return found

    def _give_address(self, call: Call, card: Resource, properties: dict[str, Any], before: dict[str, Any]) -> None:
        link = (properties.get("subnet") or {}).get("id", "")
        subnet = self._store.find(link)
        network = self._store.find(parent_of(link)) if subnet else None
        if subnet is None or network is None or network.get("location") != card.get("location"):
            raise missing_reference(link, card["id"])
        call.need_linked("Microsoft.Network/virtualNetworks/subnets/join/action", subnet["id"])
        _check_takes_machines(subnet)
        properties.setdefault("privateIPAddressVersion", "IPv4")
        had = before.get("privateIPAddress") if before.get("subnet", {}).get("id", "").lower() == link.lower() else None
        if properties.get("privateIPAllocationMethod", "Dynamic") == "Static":
            self._check_wanted(subnet, properties.get("privateIPAddress"), had)
            return
        free = None if had else next(self._subnets.free(subnet), None)
        if not had and free is None:
            message = f"Subnet {subnet['name']} with address prefix does not have enough capacity for 1 IP addresses."
            raise Refusal(400, "SubnetIsFull", message)
        properties |= {"privateIPAllocationMethod": "Dynamic", "privateIPAddress": had or str(free)}

    def _check_wanted(self, subnet: Resource, wanted: str | None, had: str | None) -> None:
        if not wanted:
            raise Refusal(400, "PrivateIPAddressNotSpecified", "A static allocation needs a private IP address.")
        if wanted == had:
            return
        if not any(IPv4Address(wanted) in network for network in self._subnets.ranges(subnet)):
            message = f"Private static IP address {wanted} does not belong to the range of subnet prefix."
            raise Refusal(400, "PrivateIPAddressNotInSubnet", message)
        if IPv4Address(wanted) not in self._subnets.free(subnet):
            message = f"IP configuration cannot have the address {wanted}: it is already allocated to another resource."
            raise Refusal(400, "PrivateIPAddressIsAllocated", message)

    def begun(self, call: Call, resource: Resource, before: Resource | None) -> None:
        self._subnets.hold(resource)

    # ------------------------------------------------------------ and gone

    def deleted(self, resource: Resource) -> None:
        self._subnets.let_go(resource)

    def check_delete(self, call: Call | None, resource: Resource) -> None:
        if user := (resource["properties"].get("virtualMachine") or {}).get("id"):
            message = f"Network Interface {resource['id']} is used by existing resource {user}. In order to delete the network "
            raise Refusal(400, "NicInUse", f"{message}interface, it must be dissociated from the resource.")
        self._check_reservation(resource["id"], "")

    # ------------------------------------------------------------ who uses them

    def make(self, call: Call, resource: Resource) -> Resource:
        """One that a machine makes for itself: all at once, and it is its own from the beginning."""
        resource = {"type": CARD, "etag": self._store.etag(), **copied(resource)}
        self.check(call, resource, None)
        resource["properties"]["provisioningState"] = "Succeeded"
        self._store.put(resource)
        self._subnets.hold(resource)
        return resource

    def attach(self, call: Call, link: str, machine: str) -> Resource:
        """`machine`: its id. Refuses a card that another has, or is to have."""
        found = self._store.find(link)
        if found is None:
            raise missing_reference(link, machine)
        call.need_linked("Microsoft.Network/networkInterfaces/join/action", found["id"])
        user = (found["properties"].get("virtualMachine") or {}).get("id", "")
        if user and user.lower() != machine.lower():
            message = f"Network Interface {found['id']} is used by existing resource {user}."
            raise Refusal(400, "NicInUse", message)
        self._check_reservation(found["id"], machine)
        found["properties"]["virtualMachine"] = {"id": machine}
        return found

    def detach(self, machine: Resource, *, failed: bool = False) -> None:
        """All of a machine that is gone. `failed`: it was never made; its cards are kept for it."""
        for card in self.of(machine):
            del card["properties"]["virtualMachine"]
            if failed:
                until = self._world.clock() + RESERVATION_SECONDS
                self._reserved[card["id"].lower()] = (machine["id"].lower(), until)

    def _check_reservation(self, card: str, machine: str) -> None:
        owner, until = self._reserved.get(card.lower(), ("", 0.0))
        if owner and owner != machine.lower() and self._world.clock() < until:
            raise Refusal(
                400, "NicReservedForAnotherVm",
                "Nic(s) in request is reserved for another Virtual Machine for 180 seconds. Please provide another nic(s) or "
                f"retry after 180 seconds. Reserved VM: {owner}",
            )  # fmt: skip

    def of(self, machine: Resource) -> list[Resource]:
        """Those of a machine."""
        links = machine["properties"]["networkProfile"].get("networkInterfaces") or ()
        found = [card for link in links if (card := self._store.find(link["id"])) is not None]
        return [card for card in found if "virtualMachine" in card["properties"]]


def private_address(card: Resource) -> str:
    return str(card["properties"]["ipConfigurations"][0]["properties"]["privateIPAddress"])


def public_address(store: Store, card: Resource) -> str:
    """ "" for none."""
    link = (card["properties"]["ipConfigurations"][0]["properties"].get("publicIPAddress") or {}).get("id")
    found = store.find(link) if link else None
    return str(found["properties"].get("ipAddress") or "") if found and found["type"] == ADDRESS else ""


def _check_takes_machines(subnet: Resource) -> None:
    if subnet["name"].lower() in RESERVED:
        message = f"Resource cannot be deployed in the subnet {name_of(subnet['id'])}, which is reserved."
        raise Refusal(400, "SubnetIsReservedForGateway", message)
    if subnet["properties"].get("delegations"):
        message = f"Subnet {subnet['id']} is delegated to a service and cannot be used by a network interface."
        raise Refusal(400, "SubnetDelegationsCannotBeUsedByNic", message)
