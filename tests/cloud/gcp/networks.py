"""Networks and subnetworks, and the addresses of instances in them."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

from tests.cloud.gcp.compute import Compute
from tests.cloud.gcp.facts import REGIONS, region_of
from tests.cloud.gcp.lists import aggregated, list_of
from tests.cloud.gcp.operations import key_of_call
from tests.cloud.gcp.services import Call, Handler
from tests.cloud.gcp.store import BASE, Resource, key_of, key_of_link
from tests.cloud.gcp.world import PROJECT, Failure, Refusal, in_use, invalid, required
from tests.cloud.machines import NETWORK

DEFAULT = f"projects/{PROJECT}/global/networks/default"
_AUTO = {"us-central1": "10.128.0.0/20", "us-east1": "10.142.0.0/20", "europe-west4": "10.164.0.0/20"}


class Networks:
    def __init__(self, compute: Compute, cidr: str = "") -> None:
        """`cidr`: what the default network's subnetworks are parts of, if not what Google gives an auto network."""
        self._compute, self._store, self._operations = compute, compute.store, compute.operations
        self._taken: dict[str, dict[IPv4Address, str]] = {}  # subnetwork -> address -> who has it
        self._lowest: dict[str, int] = {}  # subnetwork -> all below this number are taken
        self._next_public = ip_address(f"34.{NETWORK.partition('.')[2]}.0.1")  # no other process's machines have those
        self._store.add(DEFAULT, "network", {
            "autoCreateSubnetworks": True, "description": "Default network for the project", "subnetworks": [],
            "routingConfig": {"routingMode": "REGIONAL"}, "mtu": 1460,
        })  # fmt: skip
        ranges = dict(_AUTO)
        if cidr:
            ranges = dict(zip(REGIONS, map(str, ip_network(cidr).subnets(new_prefix=18)), strict=False))
        for region in REGIONS:
            self._add_subnetwork(f"projects/{PROJECT}/regions/{region}/subnetworks/default", DEFAULT, ranges[region])

    def handlers(self) -> dict[str, Handler]:
        return {
            "compute.networks.get": lambda call: dict(self._store.get(key_of_call(call, "networks", "network"))),
            "compute.networks.list": self._list_networks,
            "compute.networks.insert": self._insert_network,
            "compute.networks.delete": self._delete_network,
            "compute.subnetworks.get": lambda call: dict(self._store.get(key_of_call(call, "subnetworks", "subnetwork"))),
            "compute.subnetworks.list": self._list_subnetworks,
            "compute.subnetworks.aggregatedList": lambda call: aggregated(
                call, "subnetwork", "subnetworks", self._store.scopes(PROJECT, "subnetworks"),
                [f"regions/{region}" for region in REGIONS],
            ),
            "compute.subnetworks.insert": self._insert_subnetwork,
            "compute.subnetworks.delete": self._delete_subnetwork,
        }  # fmt: skip

    # ------------------------------------------------------------ for instances

    def interface(self, call: Call, wanted: dict[str, Any], zone: str, where: str, number: int) -> Resource:
        """A network interface as an instance has it, without its addresses; raises Refusal."""
        region = region_of(zone)
        subnetwork, network = wanted.get("subnetwork"), wanted.get("network")
        if not subnetwork and not network:
            network = "global/networks/default"
        if subnetwork:
            key = key_of(subnetwork, PROJECT, f"{where}.subnetwork")
            if self._store.find(key) is None:
                raise invalid(f"{where}.subnetwork", subnetwork, "The referenced subnetwork resource cannot be found.")
            if key.split("/")[3] != region:
                raise invalid(f"{where}.subnetwork", subnetwork, f"The subnetwork is not in region '{region}'.")
            network_key = key_of_link(self._store.get(key)["network"])
            if network and key_of(network, PROJECT, f"{where}.network") != network_key:
                raise invalid(f"{where}.network", network, "The subnetwork belongs to another network.")
        else:
            network_key = key_of(network or "", PROJECT, f"{where}.network")
            if self._store.find(network_key) is None:
                raise invalid(f"{where}.network", network, "The referenced network resource cannot be found.")
            if not self._store.get(network_key)["autoCreateSubnetworks"]:
                message = "Network interface must specify a subnet if the network resource is in custom subnet mode."
                raise invalid(where, network, message)
            name = network_key.rpartition("/")[2]
            key = f"projects/{PROJECT}/regions/{region}/subnetworks/{name}"
        call.need("compute.subnetworks.use", key)
        if wanted.get("accessConfigs"):
            call.need("compute.subnetworks.useExternalIp", key)
        self._check_addresses(call, wanted, key, where)
        return {
            **wanted, "kind": "compute#networkInterface", "name": f"nic{number}", "network": BASE + network_key,
            "subnetwork": BASE + key, "stackType": wanted.get("stackType", "IPV4_ONLY"), "fingerprint": "bm90aGluZw==",
        }  # fmt: skip

    def _check_addresses(self, call: Call, wanted: dict[str, Any], key: str, where: str) -> None:
        """Those that are asked for by number."""
        if text := wanted.get("networkIP"):
            try:
                address = IPv4Address(text)
            except ValueError:
                raise invalid(f"{where}.networkIP", text, "Must be a valid IPv4 address.") from None
            if reservation := self.reserved(key, address):
                call.need("compute.addresses.useInternal", reservation)
        for number, config in enumerate(wanted.get("accessConfigs", [])):
            if text := config.get("natIP"):
                region = key.split("/")[3]
                found = [
                    a
                    for a in self._store.collection(f"projects/{PROJECT}/regions/{region}/addresses")
                    if a["address"] == text
                ]
                if not found:
                    message = f"The specified external IP address '{text}' was not found in region '{region}'."
                    raise invalid(f"{where}.accessConfigs[{number}].natIP", text, message)
                call.need("compute.addresses.use", key_of_link(found[0]["selfLink"]))

    def give_address(self, interface: Resource, owner: str) -> None:
        """An address of its subnetwork (the one that it wants), and a public one for an access config. Raises Failure."""
        key = key_of_link(interface["subnetwork"])
        address = self.reserve(key, interface.get("networkIP", ""), owner)
        interface["networkIP"] = str(address)
        if reservation := self.reserved(key, address):
            self._store.get(reservation).update(status="IN_USE", users=[BASE + owner])
        self.give_public(interface)

    def give_public(self, interface: Resource) -> None:
        for config in interface.get("accessConfigs", []):
            config.setdefault("type", "ONE_TO_ONE_NAT")
            config.setdefault("name", "External NAT")
            config.setdefault("networkTier", "PREMIUM")
            config["kind"] = "compute#accessConfig"
            if "natIP" not in config:
                config["natIP"] = self.public()

    def public(self) -> str:
        """One more public address."""
        self._next_public += 1
        return str(self._next_public)

    def reserve(self, key: str, text: str, owner: str) -> IPv4Address:
        """An address of the subnetwork, the one that is named if one is; raises Failure."""
        self._taken.setdefault(key, {})
        network = ip_network(self._store.get(key)["ipCidrRange"])
        address = self._wanted(text, key, network, owner) if text else self._free(key, network)
        self._taken[key][address] = owner
        return address

    def unreserve(self, key: str, address: IPv4Address) -> None:
        self._taken.get(key, {}).pop(address, None)
        self._lowest[key] = min(self._lowest.get(key, int(address)), int(address))

    def reserved(self, key: str, address: IPv4Address) -> str:
        """The path of the reservation of an address of a subnetwork, or ""."""
        for found in self._store.collection(f"{key.partition('/subnetworks/')[0]}/addresses"):
            if found.get("subnetwork") == BASE + key and found["address"] == str(address):
                return key_of_link(found["selfLink"])
        return ""

    def _free(self, key: str, network: Any) -> IPv4Address:
        """The first that nobody has: Google keeps the first two and the last two for itself."""
        taken, first = self._taken[key], int(network[0])
        for number in range(self._lowest.get(key, first + 2), int(network[-1]) - 1):
            if (address := IPv4Address(number)) not in taken:
                self._lowest[key] = number + 1
                return address
        raise Failure("IP_SPACE_EXHAUSTED", f"IP space of '{key}' is exhausted.", 403, "FORBIDDEN")

    def _wanted(self, text: str, key: str, network: Any, owner: str) -> IPv4Address:
        address = IPv4Address(text)
        if address not in network:
            raise Failure(
                "INVALID_USAGE", f"IP address {text} is not in the range of subnetwork '{key}'.", 400, "BAD REQUEST"
            )
        held = self._taken.get(key, {}).get(address)
        if held is not None and ("/addresses/" not in held or self.user_of(held) or "/addresses/" in owner):
            message = f"IP '{text}' is already being used by another resource."
            raise Failure("IP_IN_USE_BY_ANOTHER_RESOURCE", message, 400, "BAD REQUEST")
        return address

    def user_of(self, address_key: str) -> str:
        users = (self._store.find(address_key) or {}).get("users", [])
        return str(users[0]) if users else ""

    def free_address(self, interface: Resource, owner: str) -> None:
        key = key_of_link(interface["subnetwork"])
        text = interface.get("networkIP", "")
        if not text or self._taken.get(key, {}).get(IPv4Address(text)) != owner:
            return
        if reservation := self.reserved(key, IPv4Address(text)):
            self._taken[key][IPv4Address(text)] = reservation
            self._store.get(reservation).update(status="RESERVED", users=[])
        else:
            self.unreserve(key, IPv4Address(text))

    # ------------------------------------------------------------ methods

    def _list_networks(self, call: Call) -> dict[str, Any]:
        key = f"projects/{PROJECT}/global/networks"
        return list_of(call, "network", key, self._store.collection(key))

    def _list_subnetworks(self, call: Call) -> dict[str, Any]:
        key = f"projects/{PROJECT}/regions/{call.path['region']}/subnetworks"
        return list_of(call, "subnetwork", key, self._store.collection(key))

    def _insert_network(self, call: Call) -> dict[str, Any]:
        body = call.body
        key = f"projects/{PROJECT}/global/networks/{body['name']}"
        if "autoCreateSubnetworks" not in body:
            raise required("resource.autoCreateSubnetworks")  # else it would be one of the older kind
        self._store.add(key, "network", {
            "routingConfig": {"routingMode": "REGIONAL"}, "mtu": 1460, **body, "subnetworks": [],
        })  # fmt: skip
        if body["autoCreateSubnetworks"]:
            for region, range_ in _AUTO.items():
                self._add_subnetwork(f"projects/{PROJECT}/regions/{region}/subnetworks/{body['name']}", key, range_)
        return self._operations.begin(call, "insert", key, undo=lambda: self._forget_network(key))

    def _forget_network(self, key: str) -> None:
        for link in self._store.get(key)["subnetworks"]:
            self._store.remove(key_of_link(link))
        self._store.remove(key)

    def _delete_network(self, call: Call) -> dict[str, Any]:
        key = key_of_call(call, "networks", "network")
        network = self._store.get(key)
        users = [
            key_of_link(rule["selfLink"])
            for rule in self._store.every("firewalls")
            if rule["network"] == network["selfLink"]
        ]
        if not network["autoCreateSubnetworks"]:
            users += [key_of_link(link) for link in network["subnetworks"]]
        users += self._instances_in("network", network["selfLink"])
        if users:
            raise in_use(key, users[0])
        return self._operations.begin(call, "delete", key, lambda: self._forget_network(key))

    def _instances_in(self, member: str, link: str) -> list[str]:
        return [
            key_of_link(instance["selfLink"])
            for instance in self._store.every("instances")
            if any(interface[member] == link for interface in instance["networkInterfaces"])
        ]

    def _add_subnetwork(self, key: str, network: str, range_: str, **more: Any) -> Resource:
        gateway = str(ip_network(range_)[1])
        made = self._store.add(key, "subnetwork", {
            "network": BASE + network, "ipCidrRange": range_, "gatewayAddress": gateway, "privateIpGoogleAccess": False,
            "purpose": "PRIVATE", "stackType": "IPV4_ONLY", "fingerprint": "c3VibmV0cw==", **more,
        })  # fmt: skip
        self._store.get(network)["subnetworks"].append(made["selfLink"])
        return made

    def _insert_subnetwork(self, call: Call) -> dict[str, Any]:
        body = dict(call.body)
        for name in ("name", "network", "ipCidrRange"):
            if name not in body:
                raise required(f"resource.{name}")
        network = key_of(body.pop("network"), PROJECT, "resource.network")
        self._store.get(network)
        try:
            range_ = ip_network(body["ipCidrRange"])
        except ValueError:
            raise invalid("resource.ipCidrRange", body["ipCidrRange"], "Must be a valid CIDR range.") from None
        for link in self._store.get(network)["subnetworks"]:
            other = self._store.get(key_of_link(link))
            if ip_network(other["ipCidrRange"]).overlaps(range_):
                message = (
                    f"Invalid IPCidrRange: {range_} conflicts with existing subnetwork '{other['name']}' in region "
                    f"'{other['region'].rpartition('/')[2]}'."
                )
                raise Refusal(400, "invalid", message)
        key = f"projects/{PROJECT}/regions/{call.path['region']}/subnetworks/{body['name']}"
        self._add_subnetwork(key, network, body.pop("ipCidrRange"), **body)
        return self._operations.begin(call, "insert", key, undo=lambda: self._forget_subnetwork(key))

    def _forget_subnetwork(self, key: str) -> None:
        found = self._store.get(key)
        self._store.get(key_of_link(found["network"]))["subnetworks"].remove(found["selfLink"])
        self._store.remove(key)

    def _delete_subnetwork(self, call: Call) -> dict[str, Any]:
        key = key_of_call(call, "subnetworks", "subnetwork")
        found = self._store.get(key)
        users = self._instances_in("subnetwork", found["selfLink"])
        users += [who for who in self._taken.get(key, {}).values() if "/addresses/" in who]
        if users:
            raise in_use(key, users[0])
        return self._operations.begin(call, "delete", key, lambda: self._forget_subnetwork(key))
