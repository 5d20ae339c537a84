"""The Cloud Billing Catalog: what Compute Engine costs, in Google's words, with all that stands beside it in the real list: other
services' customers, commitments, reserved capacity at nothing, sole tenancy, custom machines, disks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from tests.cloud.gcp.schema import document
from tests.cloud.gcp.services import Call, Service
from tests.cloud.gcp.world import Refusal

COMPUTE_ENGINE = "6F81-5844-456A"
PAGE = 5000
SPOT_SHARE, FLEX_SHARE = 0.4, 0.5
# where -> (the regions that have the same price, how much dearer)
PLACES = {
    "Americas": (("us-central1", "us-east1", "us-west1"), 1.0),
    "Netherlands": (("europe-west4",), 1.1),
}
RATES = {  # $ per hour on demand in the Americas, by the words of the list
    "N1 Predefined Instance": (0.031611, 0.004237),
    "N2 Instance": (0.031611, 0.004237),
    "N2D AMD Instance": (0.027502, 0.003686),
    "E2 Instance": (0.02181159, 0.00292353),
    "C3 Instance": (0.03398, 0.00456),
    "C4A Arm Instance": (0.0328, 0.0032),
    "T2A Arm Instance": (0.025, 0.0034),
    "A2 Instance": (0.031611, 0.004237),
    "A3 Instance": (0.0293, 0.0018),
    "G2 Instance": (0.02498844, 0.00292728),
    "Compute optimized": (0.03398, 0.00455),
}
DEVICES = {
    "Nvidia Tesla T4 GPU": 0.35,
    "Nvidia Tesla V100 GPU": 2.48,
    "Nvidia Tesla A100 GPU": 2.933908,
    "Nvidia Tesla A100 80GB GPU": 3.92,
    "Nvidia H100 80GB GPU": 9.796551,
    "Nvidia L4 GPU": 0.560040,
}
LOCAL_SSD = 0.08  # $ per GiB and month


class Billing:
    """`rates` may be changed: part ("N2 Instance Core", "Nvidia L4 GPU") -> $ per hour on demand in the Americas. `page`: how
    many a page has at most."""

    def __init__(self) -> None:
        self.page = PAGE
        self.rates: dict[str, float] = dict(DEVICES)
        for words, (core, ram) in RATES.items():
            self.rates |= {f"{words} Core": core, f"{words} Ram": ram}

    def service(self) -> Service:
        """Whoever has a token may read it."""
        return Service(document("cloudbilling.v1"), {"cloudbilling.services.skus.list": self._list})

    def _list(self, call: Call) -> dict[str, Any]:
        if call.path["parent"] != f"services/{COMPUTE_ENGINE}":
            raise Refusal(404, "notFound", f"Service {call.path['parent']} not found.", status="NOT_FOUND")
        every = list(self.skus())
        token = str(call.query.get("pageToken") or "0")
        if not token.isdigit():
            raise Refusal(400, "badRequest", "Invalid page token.", status="INVALID_ARGUMENT")
        begin, size = int(token), min(int(call.query.get("pageSize") or PAGE), self.page)
        answer: dict[str, Any] = {"skus": every[begin : begin + size]}
        answer["nextPageToken"] = str(begin + size) if begin + size < len(every) else ""
        return answer

    def skus(self) -> Iterator[dict[str, Any]]:
        for place, (regions, factor) in PLACES.items():
            for part, rate in self.rates.items():
                yield from _of_a_part(part, rate * factor, place, list(regions))
            where = "" if place == "Americas" else f" in {place}"
            for text, share in (("", 1.0), (" attached to Spot Preemptible VMs", SPOT_SHARE)):
                name = f"SSD backed Local Storage{text}{where}"
                usage = "Preemptible" if text else "OnDemand"
                yield _sku(name, "LocalSSD", usage, LOCAL_SSD * factor * share, list(regions), "GiBy.mo")


def _of_a_part(part: str, rate: float, place: str, regions: list[str]) -> Iterator[dict[str, Any]]:
    """Core, memory or device of one series: the three ways to pay by the hour, and those that are no price of an hour."""
    device = not part.endswith((" Core", " Ram"))
    group = "GPU" if device else {"Core": "CPU", "Ram": "RAM"}[part.rpartition(" ")[2]]
    unit = "GiBy.h" if group == "RAM" else "h"

    def row(text: str, usage: str, amount: float) -> dict[str, Any]:
        return _sku(text, group, usage, amount, regions, unit)

    if device:
        yield row(f"{part} attached to Spot Preemptible VMs running in {place}", "Preemptible", rate * SPOT_SHARE)
        yield row(f"{part} attached to DWS Defined Duration VMs running in {place}", "OnDemand", rate * FLEX_SHARE)
        yield row(f"{part} attached to DWS Calendar Mode VMs running in {place}", "OnDemand", rate * 0.7)
    else:
        words, _, kind = part.rpartition(" ")
        family = words.removesuffix(" Instance")
        yield row(f"Spot Preemptible {part} running in {place}", "Preemptible", rate * SPOT_SHARE)
        yield row(f"DWS Defined Duration {family} {kind} running in {place}", "OnDemand", rate * FLEX_SHARE)
        yield row(f"{family} Custom Instance {kind} running in {place}", "OnDemand", rate * 1.05)
        yield row(f"{family} Sole Tenancy Instance {kind} running in {place}", "OnDemand", rate * 1.1)
    yield row(f"{part} running in {place}", "OnDemand", rate)
    yield row(f"Reserved {part} running in {place}", "OnDemand", 0.0)
    for years in (1, 3):
        usage = f"Commit{years}Yr"
        yield row(f"Commitment v1: {part} in {place} for {years} Year", usage, rate * (0.63 if years == 1 else 0.45))


def _sku(text: str, group: str, usage: str, rate: float, regions: list[str], unit: str) -> dict[str, Any]:
    digest = hashlib.sha256(f"{text}/{regions}".encode()).hexdigest().upper()
    number = "-".join((digest[:4], digest[4:8], digest[8:12]))
    nanos = round(rate * 1e9)
    money = {"currencyCode": "USD", "units": str(nanos // 10**9), "nanos": nanos % 10**9}
    earlier = {**money, "units": str(nanos // 10**9 + 1)}  # the timeline: the newest price is the last
    return {
        "name": f"services/{COMPUTE_ENGINE}/skus/{number}",
        "skuId": number,
        "description": text,
        "category": {
            "serviceDisplayName": "Compute Engine",
            "resourceFamily": "Storage" if group == "LocalSSD" else "Compute",
            "resourceGroup": group,
            "usageType": usage,
        },
        "serviceRegions": regions,
        "pricingInfo": [_info(earlier, unit), _info(money, unit)],
        "serviceProviderName": "Google",
        "geoTaxonomy": {"type": "MULTI_REGIONAL" if len(regions) > 1 else "REGIONAL", "regions": regions},
    }


def _info(money: dict[str, Any], unit: str) -> dict[str, Any]:
    expression = {
        "usageUnit": unit,
        "displayQuantity": 1,
        "tieredRates": [{"startUsageAmount": 0, "unitPrice": money}],
        "usageUnitDescription": {"h": "hour", "GiBy.h": "gibibyte hour", "GiBy.mo": "gibibyte month"}[unit],
    }
    return {"summary": "", "pricingExpression": expression, "currencyConversionRate": 1}
