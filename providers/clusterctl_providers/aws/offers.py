"""Ways to get a node of a pool on AWS: types of the catalogue, in the zones that have a subnet and sell them, at the
newest price that is to be had: the Pricing API and the spot history, else the catalogue."""

from __future__ import annotations

import datetime
import json
import logging
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from clusterctl.core.errors import AuthFailed, ProviderError
from clusterctl.core.model import Offer
from clusterctl.core.resources import Resources
from clusterctl_providers.aws.calls import Calls
from clusterctl_providers.aws.network import Network
from clusterctl_providers.aws.reservations import RESERVED, Reservations
from clusterctl_providers.base import PoolRequest
from clusterctl_providers.catalog import offer_without_price, offers_for

log = logging.getLogger(__name__)

PRICES_LAST = 3600.0  # seconds
HEAD_TYPE = "m6i.large"
PRICING = "AWS Pricing API"
SPOT_HISTORY = "AWS spot price history"


class Offers:
    def __init__(self, calls: Calls, network: Network, reservations: Reservations) -> None:
        self._calls, self._network, self._reservations = calls, network, reservations
        self.reserves = False  # whether a pool has a reservation: what is free of it changes from moment to moment
        self._demand: dict[str, tuple[float, tuple[float, str] | None]] = {}  # type -> (until, ($/h, date))
        self._spot: dict[str, tuple[float, dict[str, tuple[float, str]]]] = {}  # type -> (until, zone -> ($/h, date))
        self._sold: dict[str, frozenset[str]] = {}  # type -> zones
        self._pricing_until = 0.0  # not asked before, once it has refused
        self._lock = threading.RLock()

    def of(self, pool: PoolRequest) -> list[Offer]:
        """Best first: what is reserved, then the markets in the pool's order, then by price. Raises ProviderError when
        the zones are not to be had; prices and reservations never raise."""
        if not pool.spec.get("reservation"):
            return self._on_the_market(pool)
        self.reserves = True
        first = self._reserved(pool)
        if not pool.spec.get("instances") and not pool.spec.get("gpu"):
            return [first]
        return [first, *(replace(offer, rank=offer.rank + 1) for offer in self._on_the_market(pool))]

    def _reserved(self, pool: PoolRequest) -> Offer:
        """Always one, so that what stands in its way can be told."""
        name, spec = str(pool.spec["reservation"]), {**pool.spec, "name": pool.name}
        region, trouble = self._calls.region, ""
        try:
            found = self._reservations.find(name)
        except ProviderError as error:
            found, trouble = self._reservations.last(name), str(error)
        if found is None:
            return Offer(pool.name, "unknown", RESERVED, region, 0.0, Resources(), region=region, closed=trouble)
        offer = offer_without_price("aws", region, found.zone, found.instance_type, spec)
        if offer is None:
            trouble = f"{found.instance_type} of {name} is not known here, or has less than the pool's resources"
            offer = Offer(pool.name, found.instance_type, found.market, found.zone, 0.0, Resources(), region=region)
        trouble = trouble or found.closed(time.time())
        if found.zone not in self._network.subnets():
            trouble = trouble or f"{name} is in {found.zone}, where this cluster has no subnet"
        return replace(
            offer, market=found.market, ends=found.nodes_until, closed=trouble, price_source=f"reserved as {name}"
        )

    def _on_the_market(self, pool: PoolRequest) -> list[Offer]:
        spec, wanted = _wanted(pool)
        zones = [zone for zone in self._network.subnets() if not wanted or zone in wanted]
        if not zones:
            return []
        offers = offers_for("aws", self._calls.region, zones, spec)
        types = sorted({offer.instance_type for offer in offers})
        with self._lock:
            sold = self._zones_that_sell(types)
            spot = self._spot_prices(sorted({o.instance_type for o in offers if o.market == "spot"}))
            demand = {name: self._demand_price(name) for name in types}
        priced = [
            _priced(offer, demand[offer.instance_type], spot.get(offer.instance_type, {}))
            for offer in offers
            if offer.zone in sold.get(offer.instance_type, {offer.zone})
        ]
        return sorted(priced, key=lambda o: (o.rank, o.price, o.key))

    def shipped(self, pool: PoolRequest) -> list[Offer]:
        """By the catalogue alone, which knows nothing of reservations; without `zones` in the pool an offer's zone is the
        region."""
        spec, zones = _wanted(pool)
        return offers_for("aws", self._calls.region, zones, spec)

    def _zones_that_sell(self, types: Iterable[str]) -> dict[str, frozenset[str]]:
        missing = [name for name in types if name not in self._sold]
        if missing:
            what = f"asking which zones of {self._calls.region} have {', '.join(missing)}"
            filters = [{"Name": "instance-type", "Values": missing}]
            found: dict[str, set[str]] = {name: set() for name in missing}
            try:
                for page in self._calls.pages(
                    "ec2", "describe_instance_type_offerings", what, LocationType="availability-zone", Filters=filters
                ):
                    for row in page["InstanceTypeOfferings"]:
                        found.setdefault(row["InstanceType"], set()).add(row["Location"])
            except ProviderError as error:
                log.warning("%s; all zones are tried", error)
                return self._sold
            self._sold |= {name: frozenset(zones) for name, zones in found.items()}
        return self._sold

    def _spot_prices(self, types: list[str]) -> dict[str, dict[str, tuple[float, str]]]:
        now = time.monotonic()
        stale = [name for name in types if self._spot.get(name, (0.0, {}))[0] <= now]
        if stale:
            found: dict[str, dict[str, tuple[float, str]]] = {name: {} for name in stale}
            try:
                self._read_spot(stale, found)
            except ProviderError as error:
                log.info("%s; spot prices are those of the catalogue", error)
            self._spot |= {name: (now + PRICES_LAST, by_zone) for name, by_zone in found.items()}
        return {name: self._spot[name][1] for name in types}

    def _read_spot(self, types: list[str], found: dict[str, dict[str, tuple[float, str]]]) -> None:
        what = f"asking for the spot prices of {', '.join(types)} in {self._calls.region}"
        pages = self._calls.pages(
            "ec2", "describe_spot_price_history", what, InstanceTypes=types, ProductDescriptions=["Linux/UNIX"],
            StartTime=datetime.datetime.now(datetime.timezone.utc),
        )  # fmt: skip
        newest: dict[tuple[str, str], Any] = {}
        for page in pages:
            for row in page["SpotPriceHistory"]:
                key = (row["InstanceType"], row["AvailabilityZone"])
                if key not in newest or row["Timestamp"] > newest[key]["Timestamp"]:
                    newest[key] = row
        for (name, zone), row in newest.items():
            price = float(row["SpotPrice"])
            if price > 0:
                found.setdefault(name, {})[zone] = (price, row["Timestamp"].date().isoformat())

    def _demand_price(self, name: str) -> tuple[float, str] | None:
        now = time.monotonic()
        until, price = self._demand.get(name, (0.0, None))
        if until > now or now < self._pricing_until:
            return price
        try:
            price = self._read_demand(name)
        except AuthFailed as error:
            self._pricing_until = now + PRICES_LAST / 6  # not allowed, or a role so new that it is not known yet
            log.info("%s; prices are those of the catalogue", error)
        except (ProviderError, ValueError, KeyError, TypeError) as error:
            self._pricing_until = now + PRICES_LAST / 6
            log.info("asking for the price of %s failed (%s); prices are those of the catalogue", name, error)
        else:
            self._demand[name] = (now + PRICES_LAST, price)
        return price

    def _read_demand(self, name: str) -> tuple[float, str] | None:
        fields = {
            "instanceType": name,
            "regionCode": self._calls.region,
            "operatingSystem": "Linux",
            "preInstalledSw": "NA",
            "tenancy": "Shared",
            "capacitystatus": "Used",
            "marketoption": "OnDemand",  # types that come in capacity blocks have another price for those
        }
        answer = self._calls.call(
            "pricing", "get_products", f"asking for the price of {name} in {self._calls.region}", ServiceCode="AmazonEC2",
            Filters=[{"Type": "TERM_MATCH", "Field": k, "Value": v} for k, v in fields.items()],
        )  # fmt: skip
        prices = [_price_in(json.loads(text)) for text in answer["PriceList"]]
        date = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
        return min(((price, date) for price in prices if price), default=None)


def _wanted(pool: PoolRequest) -> tuple[dict[str, Any], list[str]]:
    """The pool's spec with its name and, for a head, a type; and the zones that it names."""
    spec = {**pool.spec, "name": pool.name}
    if pool.role == "head" and not spec.get("instances") and not spec.get("gpu"):
        spec["instances"] = [HEAD_TYPE]
    return spec, [str(zone) for zone in spec.get("zones") or []]


def _price_in(product: Mapping[str, Any]) -> float:
    """$/h on demand in one product of the Pricing API; 0 when it has none."""
    for term in product["terms"].get("OnDemand", {}).values():
        for dimension in term["priceDimensions"].values():
            if dimension["unit"] == "Hrs":
                return float(dimension["pricePerUnit"].get("USD") or 0)
    return 0.0


def _priced(offer: Offer, demand: tuple[float, str] | None, spot: Mapping[str, tuple[float, str]]) -> Offer:
    if offer.market == "spot":
        if offer.zone in spot:
            price, date = spot[offer.zone]
            return replace(offer, price=price, price_source=SPOT_HISTORY, price_date=date)
        return offer
    if demand:
        return replace(offer, price=demand[0], price_source=PRICING, price_date=demand[1])
    return offer
