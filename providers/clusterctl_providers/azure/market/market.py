"""What Azure sells where and for how much (`cloud.offers.Market`): the sizes that it has for the subscription in the region, and
the Retail Prices API, whose prices are the same in all zones of a region."""

from __future__ import annotations

from collections.abc import Sequence

from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.market.prices import ON_DEMAND, SOURCE, SPOT, PriceList
from clusterctl_providers.azure.market.skus import Skus
from clusterctl_providers.catalog import Price
from clusterctl_providers.cloud.offers import Quote


class VmMarket:
    """Thread-safe."""

    provider = "azure"
    head_type = "Standard_D2s_v5"

    def __init__(self, calls: Calls, prices: PriceList, skus: Skus) -> None:
        self._calls, self._prices, self._skus = calls, prices, skus

    @property
    def region(self) -> str:
        return self._calls.region

    def zones(self) -> Sequence[str]:
        return self._skus.zones()

    def sellers(self, types: Sequence[str]) -> dict[str, frozenset[str]]:
        """A size that the region's list does not have is sold nowhere."""
        listed = self._skus.all()
        return {name: listed[name].zones if name in listed else frozenset() for name in types}

    def markets(self, types: Sequence[str]) -> dict[str, frozenset[str]]:
        listed = self._skus.all()
        known = {name: listed[name] for name in types if name in listed}
        return {name: frozenset({ON_DEMAND, SPOT} if sku.spot else {ON_DEMAND}) for name, sku in known.items()}

    def listed(self) -> dict[str, Price]:
        rates, day = self._prices.rates(self.region)
        return {
            size: Price("azure", self.region, size, markets[ON_DEMAND], markets.get(SPOT), SOURCE, day)
            for size, markets in rates.items()
            if ON_DEMAND in markets
        }

    def quote(self, instance_type: str, market: str) -> Quote | None:
        """`listed` has them all."""
        return None

    def spot(self, types: Sequence[str]) -> dict[str, dict[str, Quote]]:
        return {}
