"""The list of retail prices, asked for: without a login, page by page, kept for half a day for each region."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from clusterctl_providers.azure.market.prices import ON_DEMAND, SPOT, PriceList
from clusterctl_providers.cloud.kept import FRESH, REFUSED_FOR

from clusterctl.core.errors import ProviderError, UnknownOutcome
from tests.cloud.azure.cloud import AzureCloud

REGION = "eastus"
SIZE = "Standard_D4as_v5"
FILE = f"azure-prices-{REGION}.json"


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def price_list(cloud: AzureCloud, directory: Path | None, clock: Clock | None = None) -> PriceList:
    return PriceList({"endpoint_url": cloud.url}, directory, clock or Clock(), lambda seconds: None)


def test_prices_are_kept_for_half_a_day_and_by_all_clusters(cloud: AzureCloud, tmp_path: Path) -> None:
    clock, retail = Clock(), cloud.retail
    rates, day = price_list(cloud, tmp_path, clock).rates(REGION)
    assert rates[SIZE][ON_DEMAND] == retail.rates[SIZE] > rates[SIZE][SPOT] > 0 and day == "2027-01-15"
    pages = retail.asked
    clock.now += FRESH - 1
    assert price_list(cloud, tmp_path, clock).rates(REGION) == (rates, day) and retail.asked == pages
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    clock.now += 2
    assert price_list(cloud, tmp_path, clock).rates(REGION)[0] == rates and retail.asked == 2 * pages


def test_all_pages_are_read(cloud: AzureCloud) -> None:
    whole = price_list(cloud, None).rates(REGION)[0]
    cloud.retail.asked, cloud.retail.page = 0, 400
    assert price_list(cloud, None).rates(REGION)[0] == whole and cloud.retail.asked > 3


def test_each_region_has_a_list_of_its_own(cloud: AzureCloud, tmp_path: Path) -> None:
    prices = price_list(cloud, tmp_path)
    here, there = prices.rates(REGION)[0], prices.rates("westeurope")[0]
    assert there[SIZE][ON_DEMAND] == pytest.approx(1.1 * here[SIZE][ON_DEMAND], rel=1e-4)
    assert {file.name for file in tmp_path.iterdir()} == {FILE, "azure-prices-westeurope.json"}
    assert prices.rates("northcentralus")[0] == {}, "the list has nothing of it"


@pytest.mark.parametrize("kept", ["", "{", "[]", '{"read_at": "soon"}', '{"read_at": 1800000000, "rates": 7}'])
def test_a_file_that_cannot_be_read_is_made_anew(cloud: AzureCloud, tmp_path: Path, kept: str) -> None:
    (tmp_path / FILE).write_text(kept)
    assert price_list(cloud, tmp_path).rates(REGION)[0]
    assert json.loads((tmp_path / FILE).read_text())["rates"][REGION]


def test_nobody_asks_again_for_a_while_after_a_refusal(cloud: AzureCloud) -> None:
    cloud.retail.closed = 403
    clock = Clock()
    prices = price_list(cloud, None, clock)
    for _ in range(3):
        with pytest.raises(ProviderError, match="asking for the prices of eastus"):
            prices.rates(REGION)
    assert cloud.retail.asked == 1
    cloud.retail.closed = 0
    clock.now += REFUSED_FOR + 1
    assert prices.rates(REGION)[0]


def test_a_list_that_is_busy_is_asked_a_few_times(cloud: AzureCloud) -> None:
    cloud.retail.closed = 503
    with pytest.raises(UnknownOutcome):
        price_list(cloud, None).rates(REGION)
    assert cloud.retail.asked > 1


def test_nothing_that_answers_is_told_with_what_was_tried(tmp_path: Path) -> None:
    prices = PriceList({"endpoint_url": "https://127.0.0.1:1"}, None, Clock(), lambda seconds: None)
    with pytest.raises(UnknownOutcome, match="asking for the prices of eastus: Azure could not be reached"):
        prices.rates(REGION)


def test_a_page_elsewhere_is_not_followed(cloud: AzureCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.cloud.azure.retail.PATH", "@elsewhere.example/api/retail/prices")
    with pytest.raises(UnknownOutcome, match="which is not at https://127"):
        price_list(cloud, None).rates(REGION)


@pytest.mark.parametrize("row", [7, {"retailPrice": "much", "type": "Consumption", "unitOfMeasure": "1 Hour"}])
def test_an_answer_that_is_not_to_be_read_is_told_as_that(
    cloud: AzureCloud, monkeypatch: pytest.MonkeyPatch, row: object
) -> None:
    whole = {"armSkuName": SIZE, "armRegionName": REGION, "serviceName": "Virtual Machines"}
    cloud.retail.rates = {}
    monkeypatch.setattr("tests.cloud.azure.retail._value", lambda row, name: whole.get(name, "Consumption"))
    cloud.retail.extra = [row if not isinstance(row, dict) else {**whole, **row}]  # type: ignore[list-item]
    with pytest.raises(ProviderError, match="not to be read"):
        price_list(cloud, None).rates(REGION)
