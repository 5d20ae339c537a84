"""The Retail Prices API: what virtual machines cost, in Azure's words, with all that stands beside it in the real list: Windows,
Low Priority, dedicated hosts, cloud services, reservations, development rates, meters that have run out and such as belong to
another region. Anybody may ask: a token that is sent there has gone where it does not belong."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any
from urllib.parse import urlencode

from clusterctl_providers import catalog
from werkzeug.wrappers import Request, Response

from tests.cloud.azure.facts import REGIONS
from tests.cloud.azure.services import Services
from tests.cloud.azure.world import World

PATH = "/api/retail/prices"
PAGE = 1000
SPOT_SHARE = 0.3
FACTORS = {"eastus": 1.0, "westeurope": 1.1}  # the regions of the list, and how much dearer they are
_TERM = re.compile(r"(\w+) eq '([^']*)'")
_FIELDS = frozenset((
    "armRegionName", "location", "meterId", "meterName", "productId", "skuId", "productName", "skuName", "serviceName",
    "serviceId", "serviceFamily", "priceType", "armSkuName",
))  # fmt: skip  # that may be filtered
_PARAMETERS = frozenset(("api-version", "currencyCode", "$filter", "$skip", "$top", "meterRegion"))


class Retail:
    """`rates` may be changed: size -> $ per hour on demand in eastus. `page`: how many a page has at most. `closed`: the status
    that it answers instead, 0 for none."""

    def __init__(self, world: World, services: Services) -> None:
        self._world = world
        self.page, self.closed = PAGE, 0
        self.asked = 0
        self.rates = {machine: price.on_demand for machine, price in catalog.prices("azure", "eastus").items()}
        self.unsold: set[tuple[str, str]] = set()  # (size, market) that the list does not have
        self.extra: list[dict[str, Any]] = []  # rows beside those of the rates
        services.plain(re.escape(PATH), self._list)

    def rows(self, region: str = "") -> Iterator[dict[str, Any]]:
        """All of the list, or what it has of a region."""
        for place, factor in FACTORS.items():
            for size, rate in self.rates.items() if region in ("", place) else ():
                yield from (row for row in _of_a_size(size, rate * factor, place) if not self._is_unsold(row))
        yield from self.extra

    def _is_unsold(self, row: Mapping[str, Any]) -> bool:
        return (row["armSkuName"], "spot" if row["skuName"].endswith("Spot") else "on-demand") in self.unsold

    def _list(self, request: Request, match: re.Match[str]) -> Response:
        with self._world.lock:
            self.asked += 1
            if request.headers.get("Authorization"):
                self._world.violations.append("a token was sent to the list of prices, which wants none")
        if self.closed:
            return Response("Service Unavailable", status=self.closed, content_type="text/plain")
        if wrong := _wrong(request):
            return self._refused(wrong)
        terms = _terms(request.args.get("$filter", ""))
        here = self.rows(terms.get("armRegionName", ""))
        found = [row for row in here if all(_value(row, name) == value for name, value in terms.items())]
        begin = int(request.args.get("$skip", "0"))
        following = begin + self.page
        query = {**{key: request.args[key] for key in request.args}, "$skip": str(following)}
        return _json({
            "BillingCurrency": "USD", "CustomerEntityId": "Default", "CustomerEntityType": "Retail",
            "Items": found[begin:following],
            "NextPageLink": f"{request.host_url.rstrip('/')}{PATH}?{urlencode(query)}" if following < len(found) else None,
            "Count": len(found[begin:following]),
        })  # fmt: skip

    def _refused(self, why: str) -> Response:
        with self._world.lock:
            self._world.violations.append(f"the list of prices: {why}")
        return _json({"Error": {"Code": "BadRequest", "Message": why}}, 400)


def _wrong(request: Request) -> str:
    if unknown := sorted(set(request.args) - _PARAMETERS):
        return f"no parameter {unknown[0]}"
    if request.args.get("currencyCode") not in (None, "'USD'"):
        return "the stand-in has US dollars, as currencyCode='USD'"
    text = request.args.get("$filter", "")
    if _TERM.sub("", text).replace(" and ", "").strip():
        return f"the filter is not to be read: {text}"
    if unknown := sorted(set(_terms(text)) - _FIELDS):
        return f"no member {unknown[0]} to filter by"
    return "" if request.args.get("$skip", "0").isdigit() else "$skip is no number"


def _terms(text: str) -> dict[str, str]:
    return dict(_TERM.findall(text))


def _value(row: Mapping[str, Any], name: str) -> Any:
    return row["type" if name == "priceType" else name]


@cache
def _of_a_size(size: str, rate: float, region: str) -> list[dict[str, Any]]:
    """The prices of an hour, and what else the list has of a size."""
    meter = size.removeprefix("Standard_").replace("_", " ")
    series = re.sub(r"\d+", "", meter.partition(" ")[0]) + "".join(meter.partition(" ")[2].split())
    linux = f"Virtual Machines {series} Series"

    def row(name: str, product: str, amount: float, **more: Any) -> dict[str, Any]:
        return item(size, name, product, amount, region, **more)

    return [
        row(f"{meter} Low Priority", linux, rate * 0.2),
        row(meter, f"{linux} Windows", rate * 1.9),
        row(f"{meter} Spot", f"{linux} Windows", rate * 0.9),
        row(f"{meter} Spot", linux, rate * SPOT_SHARE),
        row(meter, linux, rate),
        row(meter, linux, rate * 5000, type="Reservation", reservationTerm="1 Year"),
        row(meter, linux, rate * 0.6, type="DevTestConsumption"),
        row(meter, f"{series} Series Cloud Services", rate * 1.2),
        row(f"{meter} Expired", linux, rate * 0.5, effectiveStartDate="2019-01-01T00:00:00Z"),
    ]


def item(size: str, meter: str, product: str, rate: float, region: str, **more: Any) -> dict[str, Any]:
    """A row of the list."""
    number = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{size}/{meter}/{product}/{region}"))
    return {
        "currencyCode": "USD", "tierMinimumUnits": 0.0, "retailPrice": round(rate, 6), "unitPrice": round(rate, 6),
        "armRegionName": region, "location": REGIONS[region].title, "effectiveStartDate": "2024-05-01T00:00:00Z",
        "meterId": number, "meterName": meter, "productId": "DZH318Z0BQ4L", "skuId": f"DZH318Z0BQ4L/{number[:4].upper()}",
        "productName": product, "skuName": meter, "serviceName": "Virtual Machines", "serviceId": "DZH313Z7MMC8",
        "serviceFamily": "Compute", "unitOfMeasure": "1 Hour", "type": "Consumption", "isPrimaryMeterRegion": True,
        "armSkuName": size, **more,
    }  # fmt: skip


def _json(body: Mapping[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(body), status=status, content_type="application/json; charset=utf-8")
