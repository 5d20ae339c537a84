"""Firewall rules of the pretended Compute Engine."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Any

from tests.cloud.gcp.compute import Compute
from tests.cloud.gcp.lists import list_of
from tests.cloud.gcp.networks import DEFAULT
from tests.cloud.gcp.operations import key_of_call
from tests.cloud.gcp.services import Call, Handler
from tests.cloud.gcp.store import BASE, Resource, key_of
from tests.cloud.gcp.world import PROJECT, Refusal, already_exists, invalid

_PROTOCOLS = frozenset({"tcp", "udp", "icmp", "esp", "ah", "sctp", "ipip", "all"})
_PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")
_COLLECTION = f"projects/{PROJECT}/global/firewalls"


class Firewalls:
    def __init__(self, compute: Compute) -> None:
        self._store, self._operations = compute.store, compute.operations

    def handlers(self) -> dict[str, Handler]:
        return {
            "compute.firewalls.get": lambda call: dict(self._store.get(key_of_call(call, "firewalls", "firewall"))),
            "compute.firewalls.list": lambda call: list_of(
                call, "firewall", _COLLECTION, self._store.collection(_COLLECTION)
            ),
            "compute.firewalls.insert": self._insert,
            "compute.firewalls.patch": lambda call: self._change(call, "patch"),
            "compute.firewalls.update": lambda call: self._change(call, "update"),
            "compute.firewalls.delete": self._delete,
        }

    def _insert(self, call: Call) -> dict[str, Any]:
        key = f"{_COLLECTION}/{call.body['name']}"
        rule = self._whole(call, call.body)
        if self._store.find(key):
            raise already_exists(key)
        self._store.add(key, "firewall", rule)
        return self._operations.begin(call, "insert", key, undo=lambda: self._store.remove(key))

    def _change(self, call: Call, verb: str) -> dict[str, Any]:
        """`patch` keeps what is not sent, `update` does not; neither changes the network or the direction."""
        key = key_of_call(call, "firewalls", "firewall")
        rule = self._store.get(key)
        kept = (
            rule
            if verb == "patch"
            else {"network": rule["network"], "direction": rule["direction"], "name": rule["name"]}
        )
        if call.body.get("direction", rule["direction"]) != rule["direction"]:
            raise invalid(
                "resource.direction", call.body["direction"], "The direction of a firewall rule cannot be changed."
            )
        fresh = {k: v for k, v in {**kept, **call.body}.items() if v != []}
        whole = self._whole(call, fresh)
        if whole["network"] != rule["network"]:
            raise invalid("resource.network", call.body["network"], "The network of a firewall rule cannot be changed.")
        for member in [m for m in rule if m in call.body or verb == "update"]:
            if member not in whole and member not in ("kind", "id", "creationTimestamp", "selfLink"):
                del rule[member]
        rule.update(whole)
        return self._operations.begin(call, verb, key)

    def _delete(self, call: Call) -> dict[str, Any]:
        key = key_of_call(call, "firewalls", "firewall")
        call.need("compute.networks.updatePolicy", self._store.get(key)["network"].removeprefix(BASE))
        return self._operations.begin(call, "delete", key, lambda: self._store.remove(key))

    def _whole(self, call: Call, wanted: Resource) -> Resource:
        """With Google's defaults; raises Refusal."""
        network = key_of(wanted.get("network", DEFAULT), PROJECT, "resource.network")
        if self._store.find(network) is None:
            raise invalid("resource.network", wanted["network"], "The referenced network resource cannot be found.")
        call.need("compute.networks.updatePolicy", network)
        direction = wanted.get("direction", "INGRESS")
        if bool(wanted.get("allowed")) == bool(wanted.get("denied")):
            raise Refusal(400, "invalid", "Exactly one of allowed and denied must be specified for a firewall rule.")
        for member in ("allowed", "denied"):
            for number, each in enumerate(wanted.get(member, [])):
                _check_protocol(each, f"resource.{member}[{number}]")
        _check_ends(wanted, direction)
        if not 0 <= wanted.get("priority", 1000) <= 65535:
            raise invalid("resource.priority", str(wanted["priority"]), "Must be between 0 and 65535.")
        whole = {
            "priority": 1000, "direction": direction, "disabled": False, "logConfig": {"enable": False}, **wanted,
            "network": BASE + network,
        }  # fmt: skip
        if direction == "INGRESS" and not any(
            m in wanted for m in ("sourceRanges", "sourceTags", "sourceServiceAccounts")
        ):
            whole["sourceRanges"] = ["0.0.0.0/0"]
        if direction == "EGRESS":
            whole.setdefault("destinationRanges", ["0.0.0.0/0"])
        return whole


def _check_protocol(each: Resource, where: str) -> None:
    protocol = str(each.get("IPProtocol", "")).lower()
    if protocol not in _PROTOCOLS and not (protocol.isdigit() and int(protocol) < 256):
        raise invalid(f"{where}.IPProtocol", protocol, "Must be a well known protocol or a protocol number.")
    if each.get("ports") and protocol not in ("tcp", "udp", "sctp", "6", "17", "132"):
        raise invalid(
            f"{where}.ports",
            each["ports"][0],
            "Ports may only be specified on rules whose protocol is one of [TCP, UDP, SCTP].",
        )
    for text in each.get("ports", []):
        found = _PORTS.fullmatch(text)
        if not found or not int(found.group(1)) <= int(found.group(2) or found.group(1)) <= 65535:
            raise invalid(f"{where}.ports", text, "Must be a valid port or range of ports.")


def _check_ends(wanted: Resource, direction: str) -> None:
    others = (
        ("destinationRanges",) if direction == "INGRESS" else ("sourceRanges", "sourceTags", "sourceServiceAccounts")
    )
    for member in others:
        if wanted.get(member) and not (member == "destinationRanges" and direction == "INGRESS"):
            raise invalid(
                f"resource.{member}", wanted[member][0], f"It is not allowed in a rule of direction {direction}."
            )
    for member in ("sourceRanges", "destinationRanges"):
        for text in wanted.get(member, []):
            try:
                ip_network(text)
            except ValueError:
                message = f"Must be a valid CIDR address range; {text} has host bits set or is none."
                raise invalid(f"resource.{member}", text, message) from None
        if len({ip_network(text).version for text in wanted.get(member, [])}) > 1:
            raise invalid(f"resource.{member}", wanted[member][0], "A rule has IPv4 ranges or IPv6 ranges, not both.")
    accounts = wanted.get("sourceServiceAccounts") or wanted.get("targetServiceAccounts")
    if accounts and (wanted.get("sourceTags") or wanted.get("targetTags")):
        raise Refusal(400, "invalid", "Service accounts cannot be used at the same time as tags in a firewall rule.")
    for member in ("sourceTags", "targetTags"):
        for tag in wanted.get(member, []):
            if not re.fullmatch(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?", tag):
                raise invalid(
                    f"resource.{member}", tag, "Must be a match of regex '(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)'"
                )
