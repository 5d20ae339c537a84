"""Ways to get a node of a pool: types of the catalogue, in the zones where the cluster has a network and that sell them, at
the newest price that is to be had, else the catalogue's. What is reserved comes first.

A cloud brings a `Market`, asked rarely; what it cannot tell makes an offer dearer in doubt, and never keeps it away:

    AWS           zones = those with a subnet; sold = DescribeInstanceTypeOfferings; on demand = the Pricing API, spot = the spot
                  price history
    Google Cloud  zones = those of the region (a subnetwork spans them); sold = machineTypes and acceleratorTypes by zone; both
                  prices = the Billing Catalog API, by SKUs of cores, memory and devices
    Azure         zones = 1, 2, 3 or none; sold = resourceSkus with their restrictions; both prices = the Retail Prices API, the
                  same in all zones
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from clusterctl.core.errors import ProviderError
from clusterctl.core.model import Offer
from clusterctl.core.resources import Resources
from clusterctl_providers.base import PoolRequest
from clusterctl_providers.catalog import Price, offer_without_price, offers_for
from clusterctl_providers.cloud.reservations import RESERVED, Reservations

log = logging.getLogger(__name__)

LAST = 3600.0  # seconds that a price is believed
REFUSED_FOR = LAST / 6  # that nobody is asked for a price after one was refused: no right to, or a role not known yet


@dataclass(frozen=True)
class Quote:
    """$/h of one instance, and whose word that is."""

    price: float
    source: str
    date: str  # YYYY-MM-DD


class Market(Protocol):
    """Raises ProviderError where it has no answer."""

    provider: str  # as the catalogue calls it
    head_type: str  # of a head for which the spec names nothing

    @property
    def region(self) -> str: ...

    def zones(self) -> Sequence[str]:
        """Those where the cluster has a network."""
        ...

    def sellers(self, types: Sequence[str]) -> Mapping[str, frozenset[str]]:
        """Instance type -> the zones that have it; a type of which nothing is known may be missing."""
        ...

    def markets(self, types: Sequence[str]) -> Mapping[str, frozenset[str]]:
        """Instance type -> the markets in which it is sold; a type of which nothing is known may be missing."""
        ...

    def listed(self) -> Mapping[str, Price]:
        """Prices of the region, where one list has those of all types: what the catalogue does not know there has them, too."""
        ...

    def spot(self, types: Sequence[str]) -> Mapping[str, Mapping[str, Quote]]:
        """Instance type -> zone -> quote, as far as there are any."""
        ...

    def quote(self, instance_type: str, market: str) -> Quote | None:
        """In a market with one price for all zones: "on-demand", and what the cloud alone has, as Google's "flex-start"."""
        ...


class Offers:
    """Thread-safe."""

    def __init__(
        self,
        market: Market,
        reservations: Reservations,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._market, self._reservations = market, reservations
        self._clock, self._now = clock, now
        self.reserves = False  # whether a pool has a reservation: what is free of it changes from moment to moment
        self._quotes: dict[tuple[str, str], tuple[float, Quote | None]] = {}  # type, market -> (until, quote)
        self._spot: dict[str, tuple[float, Mapping[str, Quote]]] = {}  # type -> (until, zone -> quote)
        self._sellers: dict[str, frozenset[str]] = {}  # type -> zones
        self._markets: dict[str, frozenset[str]] = {}  # type -> those that it is sold in
        self._refused_until = float("-inf")
        self._lock = threading.RLock()

    @property
    def last(self) -> float:
        """Seconds that an answer of `of` may be kept."""
        return 0.0 if self.reserves else LAST

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

    def shipped(self, pool: PoolRequest) -> list[Offer]:
        """By the catalogue alone, which knows nothing of reservations; without `zones` in the pool an offer's zone is the
        region."""
        spec, zones = self._wanted(pool)
        return offers_for(self._market.provider, self._market.region, zones, spec)

    def _reserved(self, pool: PoolRequest) -> Offer:
        """Always one, so that what stands in its way can be told."""
        name, spec = str(pool.spec["reservation"]), {**pool.spec, "name": pool.name}
        provider, region, trouble = self._market.provider, self._market.region, ""
        try:
            found = self._reservations.find(name)
        except ProviderError as error:
            found, trouble = self._reservations.last(name), str(error)
        if found is None:
            return Offer(pool.name, "unknown", RESERVED, region, 0.0, Resources(), region=region, closed=trouble)
        offer = offer_without_price(provider, region, found.zone, found.instance_type, spec)
        if offer is None:
            trouble = f"{found.instance_type} of {name} is not known here, or has less than the pool's resources"
            offer = Offer(pool.name, found.instance_type, found.market, found.zone, 0.0, Resources(), region=region)
        trouble = trouble or found.closed(self._now())
        if found.zone not in self._market.zones():
            trouble = trouble or f"{name} is in {found.zone}, where this cluster has no subnet"
        return replace(
            offer, market=found.market, ends=found.nodes_until, closed=trouble, price_source=f"reserved as {name}"
        )

    def _on_the_market(self, pool: PoolRequest) -> list[Offer]:
        spec, wanted = self._wanted(pool)
        zones = [zone for zone in self._market.zones() if not wanted or zone in wanted]
        if not zones:
            return []
        offers = offers_for(self._market.provider, self._market.region, zones, spec, self._list())
        types = sorted({offer.instance_type for offer in offers})
        with self._lock:
            self._ask_who_sells(types)
            spot = self._spot_quotes(sorted({o.instance_type for o in offers if o.market == "spot"}))
            others = sorted({(o.instance_type, o.market) for o in offers if o.market != "spot"})
            quotes = {each: self._quote(*each) for each in others}
        priced: list[Offer] = []
        for offer in offers:
            if not self._is_sold(offer):
                continue
            is_spot = offer.market == "spot"
            quote = spot[offer.instance_type].get(offer.zone) if is_spot else quotes[offer.instance_type, offer.market]
            priced.append(_priced(offer, quote))
        return sorted(priced, key=lambda o: (o.rank, o.price, o.key))

    def _wanted(self, pool: PoolRequest) -> tuple[dict[str, Any], list[str]]:
        """The pool's spec with its name and, for a head, a type; and the zones that it names."""
        spec = {**pool.spec, "name": pool.name}
        if pool.role == "head" and not spec.get("instances") and not spec.get("gpu"):
            spec["instances"] = [self._market.head_type]
        return spec, [str(zone) for zone in spec.get("zones") or []]

    def _list(self) -> Mapping[str, Price]:
        with self._lock:
            try:
                return self._market.listed()
            except ProviderError as error:
                log.info("%s; prices are those of the catalogue", error)
                return {}

    def _ask_who_sells(self, types: Iterable[str]) -> None:
        missing = [name for name in types if name not in self._sellers]
        if missing:
            try:
                sellers, markets = self._market.sellers(missing), self._market.markets(missing)
            except ProviderError as error:
                log.warning("%s; all zones are tried", error)
            else:
                self._sellers |= sellers
                self._markets |= markets

    def _is_sold(self, offer: Offer) -> bool:
        """There, and in that market, as far as is known."""
        name = offer.instance_type
        in_zone = offer.zone in self._sellers.get(name, {offer.zone})
        return in_zone and offer.market in self._markets.get(name, {offer.market})

    def _spot_quotes(self, types: list[str]) -> dict[str, Mapping[str, Quote]]:
        now = self._clock()
        stale = [name for name in types if name not in self._spot or self._spot[name][0] <= now]
        if stale:
            found: Mapping[str, Mapping[str, Quote]] = {}
            try:
                found = self._market.spot(stale)
            except ProviderError as error:
                log.info("%s; spot prices are those of the catalogue", error)
            self._spot |= {name: (now + LAST, found.get(name, {})) for name in stale}
        return {name: self._spot[name][1] for name in types}

    def _quote(self, name: str, market: str) -> Quote | None:
        now = self._clock()
        until, quote = self._quotes.get((name, market), (float("-inf"), None))
        if until > now or now < self._refused_until:
            return quote
        try:
            quote = self._market.quote(name, market)
        except ProviderError as error:
            self._refused_until = now + REFUSED_FOR
            log.info("%s; prices are those of the catalogue", error)
        else:
            self._quotes[name, market] = (now + LAST, quote)
        return quote


def _priced(offer: Offer, quote: Quote | None) -> Offer:
    return replace(offer, price=quote.price, price_source=quote.source, price_date=quote.date) if quote else offer
