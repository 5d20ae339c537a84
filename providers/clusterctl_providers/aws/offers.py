"""What EC2 sells where and for how much (`cloud.offers.Market`): the Pricing API and the spot history."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

from clusterctl.core.errors import ProviderError
from clusterctl_providers.aws.calls import Calls
from clusterctl_providers.aws.network import Network
from clusterctl_providers.catalog import Price
from clusterctl_providers.cloud.offers import Quote

PRICING = "AWS Pricing API"
SPOT_HISTORY = "AWS spot price history"


class Ec2Market:
    provider = "aws"
    head_type = "m6i.large"

    def __init__(self, calls: Calls, network: Network) -> None:
        self._calls, self._network = calls, network

    @property
    def region(self) -> str:
        return self._calls.region

    def zones(self) -> list[str]:
        return list(self._network.subnets())

    def sellers(self, types: Sequence[str]) -> dict[str, frozenset[str]]:
        what = f"asking which zones of {self.region} have {', '.join(types)}"
        filters = [{"Name": "instance-type", "Values": list(types)}]
        found: dict[str, set[str]] = {name: set() for name in types}
        pages = self._calls.pages(
            "ec2", "describe_instance_type_offerings", what, LocationType="availability-zone", Filters=filters
        )
        for page in pages:
            for row in page["InstanceTypeOfferings"]:
                found.setdefault(row["InstanceType"], set()).add(row["Location"])
        return {name: frozenset(zones) for name, zones in found.items()}

    def markets(self, types: Sequence[str]) -> dict[str, frozenset[str]]:
        """EC2 says it when one is launched."""
        return {}

    def listed(self) -> dict[str, Price]:
        """Prices are asked for type by type."""
        return {}

    def spot(self, types: Sequence[str]) -> dict[str, dict[str, Quote]]:
        what = f"asking for the spot prices of {', '.join(types)} in {self.region}"
        pages = self._calls.pages(
            "ec2", "describe_spot_price_history", what, InstanceTypes=list(types), ProductDescriptions=["Linux/UNIX"],
            StartTime=datetime.datetime.now(datetime.timezone.utc),
        )  # fmt: skip
        newest: dict[tuple[str, str], Any] = {}
        for page in pages:
            for row in page["SpotPriceHistory"]:
                key = (row["InstanceType"], row["AvailabilityZone"])
                if key not in newest or row["Timestamp"] > newest[key]["Timestamp"]:
                    newest[key] = row
        found: dict[str, dict[str, Quote]] = {}
        for (name, zone), row in newest.items():
            price = float(row["SpotPrice"])
            if price > 0:
                found.setdefault(name, {})[zone] = Quote(price, SPOT_HISTORY, row["Timestamp"].date().isoformat())
        return found

    def quote(self, instance_type: str, market: str) -> Quote | None:
        """On demand, for Linux on shared hardware, as of today; None where the Pricing API has no such price, and in any other
        market. Raises ProviderError."""
        if market != "on-demand":
            return None
        what = f"asking for the price of {instance_type} in {self.region}"
        fields = {
            "instanceType": instance_type,
            "regionCode": self.region,
            "operatingSystem": "Linux",
            "preInstalledSw": "NA",
            "tenancy": "Shared",
            "capacitystatus": "Used",
            "marketoption": "OnDemand",  # types that come in capacity blocks have another price for those
        }
        answer = self._calls.call(
            "pricing", "get_products", what, ServiceCode="AmazonEC2",
            Filters=[{"Type": "TERM_MATCH", "Field": k, "Value": v} for k, v in fields.items()],
        )  # fmt: skip
        try:
            prices = [price for text in answer["PriceList"] if (price := _price_in(json.loads(text)))]
        except (ValueError, KeyError, TypeError) as error:
            raise ProviderError(f"{what}: AWS's answer is not to be read ({error!r})") from error
        date = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
        return Quote(min(prices), PRICING, date) if prices else None


def _price_in(product: Mapping[str, Any]) -> float:
    """$/h on demand in one product of the Pricing API; 0 when it has none."""
    for term in product["terms"].get("OnDemand", {}).values():
        for dimension in term["priceDimensions"].values():
            if dimension["unit"] == "Hrs":
                return float(dimension["pricePerUnit"].get("USD") or 0)
    return 0.0
