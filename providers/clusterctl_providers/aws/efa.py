"""The network cards of a machine in a gang: EFA on every card that has it, as AWS lays them out for each type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def efa_interfaces(network: Mapping[str, Any], subnet: str, groups: Sequence[str]) -> list[dict[str, Any]]:
    """NetworkInterfaces for RunInstances, from the NetworkInfo of DescribeInstanceTypes; [] for a type without EFA.

    The first interface is the machine's own (device 0): EFA with ENA where its card has it, else plain ENA as on
    p6-b300. Every further card gets one EFA interface without an address (device 1), so that the machine has one address
    and no routes to guess between."""
    if not network.get("EfaSupported"):
        return []
    left = int((network.get("EfaInfo") or {}).get("MaximumEfaInterfaces") or 1)
    default = int(network.get("DefaultNetworkCardIndex") or 0)
    cards: list[Mapping[str, Any]] = [*(network.get("NetworkCards") or ())]
    cards.sort(key=lambda card: card["NetworkCardIndex"] != default)
    found: list[dict[str, Any]] = []
    for card in cards or [{"NetworkCardIndex": default}]:
        kinds = card.get("InterfaceTypes") or ["interface", "efa", "efa-only"]  # older regions do not say
        first = not found
        kind = _kind(kinds, first) if left else ""
        if not kind and not first:
            continue
        left -= bool(kind)
        found.append(
            {
                "DeviceIndex": 0 if first else 1,
                "NetworkCardIndex": int(card["NetworkCardIndex"]),
                "InterfaceType": kind or "interface",
                "SubnetId": subnet,
                "Groups": list(groups),
                "DeleteOnTermination": True,
            }
        )
    return found


def _kind(kinds: Sequence[str], first: bool) -> str:
    """ "" for a card without EFA. The machine's own interface must have an address."""
    wanted = ("efa",) if first else ("efa-only", "efa")
    return next((kind for kind in wanted if kind in kinds), "")
