"""What Azure charges, by the Retail Prices API: list prices of all sizes of a region, on demand and as spot. Savings plans,
reservations and an agreement's own discounts are not counted, which makes a machine dearer in doubt.

The API wants no login. A region's sizes are some thousand rows, with Windows, Low Priority (of Batch alone), dedicated hosts and
meters that have run out among them; what is left is kept in a file of the user's for half a day.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from clusterctl.core.errors import ProviderError, UnknownOutcome
from clusterctl_providers.azure.errors import ApiError, typed
from clusterctl_providers.cloud.bucket import shared_bucket
from clusterctl_providers.cloud.calls import call_once, pages, read
from clusterctl_providers.cloud.kept import KeptPrices, Rates

SOURCE = "Azure Retail Prices"
ENDPOINT = "https://prices.azure.com"
PATH = "/api/retail/prices"
VERSION = "2023-01-01-preview"
ON_DEMAND, SPOT = "on-demand", "spot"
PER_SECOND = 10.0  # pages, of a thousand rows each
TIMEOUT = (5.0, 30.0)  # seconds: to connect, and for each part of an answer
_HOURS = re.compile(r"(\d+)\s*/?\s*Hours?")
_NOT_OURS = ("Windows", "CloudServices", "Cloud Services", "Dedicated Host")  # in a product's name
_OVER = (" Low Priority", " Expired")  # at the end of a meter's name


class PriceList:
    """Thread-safe. `directory`: where prices are kept, None where they are not, as those of a stand-in."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        directory: Path | None,
        now: Callable[[], float] = time.time,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._endpoint = str(settings.get("endpoint_url") or ENDPOINT).rstrip("/")
        self._directory, self._now, self._pause = directory, now, pause
        self._bucket = shared_bucket("Azure's price list", PER_SECOND, self._endpoint)
        self._kept: dict[str, KeptPrices] = {}
        self._lock = threading.Lock()

    def rates(self, region: str) -> tuple[Rates, str]:
        """Size -> market -> $ per hour in a region, and the day on which they were read, ISO. Raises ProviderError where they are
        not to be had."""
        with self._lock:
            if region not in self._kept:
                file = self._directory / f"azure-prices-{region}.json" if self._directory else None
                self._kept[region] = KeptPrices(file, lambda: {region: self._read(region)}, self._now)
            kept = self._kept[region]
        return kept.rates(region)

    def _read(self, region: str) -> dict[str, dict[str, float]]:
        what = f"asking for the prices of {region}"
        moment = datetime.fromtimestamp(self._now(), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        try:
            return rates_of((row for page in self._pages(region, what) for row in page.get("Items") or ()), moment)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise ProviderError(f"{what}: Azure's answer is not to be read ({error!r})") from error

    def _pages(self, region: str, what: str) -> Iterator[dict[str, Any]]:
        import requests

        wanted = f"serviceName eq 'Virtual Machines' and priceType eq 'Consumption' and armRegionName eq '{region}'"
        query = {"api-version": VERSION, "currencyCode": "'USD'", "$filter": wanted}
        with requests.Session() as session:
            session.headers["User-Agent"] = "clusterctl"

            def page(link: str) -> tuple[dict[str, Any], str]:
                url, given = (self._own(link, what), {}) if link else (self._endpoint + PATH, query)
                found = read(lambda: self._page(session, url, given, what), self._pause)
                return found, str(found.get("NextPageLink") or "")

            yield from pages(page, what, "Azure")

    def _page(self, session: Any, url: str, query: Mapping[str, str], what: str) -> dict[str, Any]:
        def make() -> dict[str, Any]:
            got = session.get(url, params=query, timeout=TIMEOUT)
            if got.status_code >= 400:
                raise ApiError(got.status_code, got.content, got.headers)
            return dict(got.json())

        return call_once(self._bucket, make, lambda error: typed(error, what))

    def _own(self, link: str, what: str) -> str:
        """A link to the next page: it leads where the list is, and nowhere else."""
        host = urlsplit(self._endpoint).netloc
        if not link.startswith("https://") or urlsplit(link).netloc.lower().removesuffix(":443") != host:
            raise UnknownOutcome(f"{what}: Azure names {link.partition('?')[0]}, which is not at {self._endpoint}")
        return link


def rates_of(rows: Iterable[Mapping[str, Any]], moment: str) -> dict[str, dict[str, float]]:
    """Size -> market -> $ per hour on Linux, in force at that moment (ISO, UTC). Where a region has two prices of the same, that
    of its own meter, then the newer one, then the dearer one."""
    best: dict[tuple[str, str], tuple[bool, str, float]] = {}
    for row in rows:
        size, rate = str(row.get("armSkuName") or ""), _rate_in(row, moment)
        if not size or rate <= 0 or not _is_of_linux(row):
            continue
        rank = (bool(row.get("isPrimaryMeterRegion")), str(row.get("effectiveStartDate") or ""), rate)
        market = SPOT if _ends(row, " Spot") else ON_DEMAND
        best[size, market] = max(rank, best.get((size, market), rank))
    found: dict[str, dict[str, float]] = {}
    for (size, market), (_, _, rate) in best.items():
        found.setdefault(size, {})[market] = rate
    return found


def _is_of_linux(row: Mapping[str, Any]) -> bool:
    product = str(row.get("productName") or "")
    return not any(word in product for word in _NOT_OURS) and not any(_ends(row, word) for word in _OVER)


def _ends(row: Mapping[str, Any], word: str) -> bool:
    return str(row.get("meterName") or "").endswith(word) or str(row.get("skuName") or "").endswith(word)


def _rate_in(row: Mapping[str, Any], moment: str) -> float:
    """$ per hour; 0 for what is no price of an hour, or not in force."""
    hours = _HOURS.fullmatch(str(row.get("unitOfMeasure") or ""))
    starts, ends = str(row.get("effectiveStartDate") or ""), str(row.get("effectiveEndDate") or "")
    in_force = starts <= moment and (not ends or ends > moment)
    is_ours = row.get("type") == "Consumption" and row.get("currencyCode", "USD") == "USD"
    if hours is None or not in_force or not is_ours or float(row.get("tierMinimumUnits") or 0):
        return 0.0
    return float(row.get("retailPrice") or 0) / int(hours[1])
