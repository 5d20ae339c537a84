"""Network security groups with their rules, and the application security groups that these name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network
from typing import Any

from tests.cloud.azure.services import Behaviour, Call, Services
from tests.cloud.azure.store import Resource, Store, parent_of
from tests.cloud.azure.world import Refusal, missing_reference

GROUP, RULE = "Microsoft.Network/networkSecurityGroups", "Microsoft.Network/networkSecurityGroups/securityRules"
MEMBERS = "Microsoft.Network/applicationSecurityGroups"
TAGS = ("*", "VirtualNetwork", "Internet", "AzureLoadBalancer")
_DEFAULTS = (
    ("AllowVnetInBound", 65000, "VirtualNetwork", "VirtualNetwork", "Allow", "Inbound"),
    ("AllowAzureLoadBalancerInBound", 65001, "AzureLoadBalancer", "*", "Allow", "Inbound"),
    ("DenyAllInBound", 65500, "*", "*", "Deny", "Inbound"),
    ("AllowVnetOutBound", 65000, "VirtualNetwork", "VirtualNetwork", "Allow", "Outbound"),
    ("AllowInternetOutBound", 65001, "*", "Internet", "Allow", "Outbound"),
    ("DenyAllOutBound", 65500, "*", "*", "Deny", "Outbound"),
)


class Rules(Behaviour):
    """Of network security groups."""

    children: Mapping[str, str] = {"securityRules": "securityRules"}

    def __init__(self, store: Store, services: Services) -> None:
        self._store = store
        services.behave(GROUP, self)
        services.behave(RULE, OneRule(store))
        services.behave(MEMBERS, Members(store))

    def check(self, call: Call, resource: Resource, before: Resource | None) -> None:
        rules = (resource.get("properties") or {}).get("securityRules") or []
        seen: set[tuple[Any, Any]] = set()
        for rule in rules:
            properties = rule.get("properties") or {}
            key = (properties.get("priority"), properties.get("direction"))
            if key in seen:
                message = f"Security rules have the same Priority {key[0]} and Direction {key[1]}."
                raise Refusal(400, "SecurityRuleConflict", message)
            seen.add(key)

    def check_delete(self, call: Call | None, resource: Resource) -> None:
        user = next((r for r in self._store.referring(resource["id"]) if r["type"] != RULE), None)
        if user is not None:
            raise Refusal(
                400, "InUseNetworkSecurityGroupCannotBeDeleted",
                f"Network security group {resource['id']} cannot be deleted because it is in use by the following resources: "
                f"{user['id']}.",
            )  # fmt: skip

    def view(self, resource: Resource, query: Any) -> None:
        resource["properties"]["defaultSecurityRules"] = [
            {
                "name": name, "id": f"{resource['id']}/defaultSecurityRules/{name}",
                "properties": {
                    "protocol": "*", "sourcePortRange": "*", "destinationPortRange": "*", "sourceAddressPrefix": source,
                    "destinationAddressPrefix": destination, "access": access, "priority": priority, "direction": direction,
                    "provisioningState": "Succeeded",
                },
            }
            for name, priority, source, destination, access, direction in _DEFAULTS
        ]  # fmt: skip


class OneRule(Behaviour):
    located = False

    def __init__(self, store: Store) -> None:
        self._store = store

    def check(self, call: Call, resource: Resource, before: Resource | None) -> None:
        properties = resource["properties"]
        priority = properties.get("priority", 0)
        if not 100 <= priority <= 4096:
            message = f"Security rule has invalid Priority. Value provided: {priority} Allowed range 100-4096."
            raise Refusal(400, "SecurityRuleInvalidPriority", message)
        for side in ("source", "destination"):
            self._check_side(resource, side)

    def begun(self, call: Call, resource: Resource, before: Resource | None) -> None:
        """It is part of its group: who writes that as a whole has to have seen it."""
        self._store.get(parent_of(resource["id"]))["etag"] = self._store.etag()

    def _check_side(self, resource: Resource, side: str) -> None:
        properties = resource["properties"]
        one, many = properties.get(f"{side}AddressPrefix"), properties.get(f"{side}AddressPrefixes") or []
        groups = properties.get(f"{side}ApplicationSecurityGroups") or []
        if sum(map(bool, (one, many, groups))) != 1:
            message = (
                f"Security rule {resource['name']} must have one of {side} addresses, or application security groups."
            )
            raise Refusal(400, "SecurityRuleParameterContainsUnsupportedValue", message)
        if not (properties.get(f"{side}PortRange") or properties.get(f"{side}PortRanges")):
            message = f"Security rule {resource['name']} has no {side} port."
            raise Refusal(400, "SecurityRuleParameterNotSpecified", message)
        for prefix in [one] if one and one not in TAGS else many:
            _check_prefix(prefix)
        if len({":" in prefix for prefix in many}) > 1:
            message = f"Security rule {resource['name']} mixes address families."
            raise Refusal(400, "SecurityRuleMixedAddressFamilies", message)
        for link in groups:
            if self._store.find(link["id"]) is None:
                raise missing_reference(link["id"], resource["id"])


class Members(Behaviour):
    """Of application security groups."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def check_delete(self, call: Call | None, resource: Resource) -> None:
        user = next(iter(self._store.referring(resource["id"])), None)
        if user is not None:
            message = (
                f"Application security group {resource['id']} cannot be deleted because it is in use by {user['id']}."
            )
            raise Refusal(400, "InUseApplicationSecurityGroupCannotBeDeleted", message)


def lets_in(store: Store, card: Resource, address: str, port: int) -> bool:
    """Whether the rules for a network card let somebody in the virtual network, or outside of it, get to a port of it."""
    group = store.find((card["properties"].get("networkSecurityGroup") or {}).get("id", ""))
    if group is None:
        return True
    entry = card["properties"]["ipConfigurations"][0]["properties"]
    groups = {link["id"].lower() for link in entry.get("applicationSecurityGroups") or ()}
    rules = [r["properties"] for r in store.children(group["id"], RULE) if r["properties"]["direction"] == "Inbound"]
    for rule in sorted(rules, key=lambda rule: rule["priority"]):
        if _is_for(rule, groups) and _is_from(rule, address) and _has_port(rule, port):
            return bool(rule["access"] == "Allow")
    return ip_address(address).is_private  # Azure's own rules


def _is_for(rule: dict[str, Any], groups: set[str]) -> bool:
    wanted = rule.get("destinationApplicationSecurityGroups") or ()
    return not wanted or bool({link["id"].lower() for link in wanted} & groups)


def _is_from(rule: dict[str, Any], address: str) -> bool:
    if rule.get("sourceApplicationSecurityGroups"):
        return False
    prefixes: Iterable[str] = rule.get("sourceAddressPrefixes") or [rule.get("sourceAddressPrefix") or ""]
    return any(
        prefix == "*"
        or (prefix == "VirtualNetwork" and ip_address(address).is_private)
        or (prefix not in TAGS and ip_address(address) in ip_network(prefix))
        for prefix in prefixes
    )


def _has_port(rule: dict[str, Any], port: int) -> bool:
    return any(
        text == "*" or int(text.partition("-")[0]) <= port <= int(text.rpartition("-")[2])
        for text in rule.get("destinationPortRanges") or [rule["destinationPortRange"]]
    )


def _check_prefix(prefix: str) -> None:
    try:
        ip_network(prefix)
    except ValueError:
        message = f"Security rule has invalid Address prefix. Value provided: {prefix}"
        raise Refusal(400, "SecurityRuleInvalidAddressPrefix", message) from None
