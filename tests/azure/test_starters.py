"""The starter specs: what each would cost, by the catalogue and without credentials, and what the docs say of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.market.quotas import quotas_of
from clusterctl_providers.azure.market.skus import Skus
from clusterctl_providers.azure.provider import AzureProvider
from clusterctl_providers.base import PoolRequest, ProviderContext
from clusterctl_providers.catalog import instance_types

from clusterctl.client.specfile import read_spec
from clusterctl.client.up.planning import plan_new
from clusterctl.client.up.review import review_spec
from clusterctl.core.errors import AuthFailed
from clusterctl.core.model import Offer
from clusterctl.spec.init import write_starter
from clusterctl.spec.to_core import core_pools, pool_requests
from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.world import REGION, SUBSCRIPTION

STARTERS = ("azure", "azure-gpu", "azure-train", "azure-serve")
DOCS = Path(__file__).parents[2] / "docs" / "azure.md"


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No credentials, and no home with some."""
    for name in [name for name in os.environ if name.startswith(("AZURE_", "ARM_", "IDENTITY_", "MSI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AZURE_CONFIG_DIR", str(tmp_path / "az"))
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "dev")  # whatever the metadata service of this machine says
    monkeypatch.setenv("CLUSTERCTL_HOME", str(tmp_path / "home"))
    yield


def offers_of(directory: Path, name: str) -> dict[str, list[Offer]]:
    """Pool -> offers of the catalogue, the head's pool among them."""
    source = read_spec(write_starter(name, directory)[0])
    provider = AzureProvider(ProviderContext(name, "", str(directory), source.spec.provider_settings))
    requests = pool_requests(source.spec)
    return {
        pool.name: provider.catalogue_offers(PoolRequest(pool.name, requests[pool.name], pool.role))
        for pool in core_pools(source.spec)
    }


def row_of(directory: Path, name: str, skus: Skus) -> str:
    """The starter's row of the table in docs/azure.md."""
    offers = offers_of(directory, name)
    plan = plan_new(read_spec(directory / "cluster.yaml"))
    head = min(offers.pop("head"), key=lambda offer: offer.price)
    ((pool, found),) = offers.items()
    most = next(p.max for p in read_spec(directory / "cluster.yaml").spec.pools if p.name == pool)
    prices, wanted = [], quotas_for(head, 1, skus)
    per_pool: dict[str, float] = {}
    for market in ("on-demand", "spot"):
        here = [offer for offer in found if offer.market == market]
        if here:
            cheapest = min(here, key=lambda offer: offer.price)
            prices.append(f"{cheapest.instance_type} {cheapest.price:.2f}{' spot' if market == 'spot' else ''}")
            for quota, count in quotas_for(cheapest, most, skus).items():
                per_pool[quota] = max(count, per_pool.get(quota, 0))
    for quota, count in per_pool.items():
        wanted[quota] = wanted.get(quota, 0) + count
    quotas = ", ".join(f"{quota}: {count:g}" for quota, count in wanted.items())
    return (
        f"| `{name}` | {head.instance_type} {head.price:.2f} | {', '.join(prices)} | {plan['cost']['max']:.2f} with {most} "
        f"| {quotas} |"
    )


def quotas_for(offer: Offer, count: int, skus: Skus) -> dict[str, float]:
    machine = next(machine for machine in instance_types("azure") if machine.name == offer.instance_type)
    return {quota.name: count * each for quota, each in quotas_of(machine, offer.market, skus)}


@pytest.mark.parametrize("name", STARTERS)
def test_a_starter_is_planned_without_credentials_by_the_catalogue_of_a_date(
    name: str, nowhere: None, tmp_path: Path
) -> None:
    source = read_spec(write_starter(name, tmp_path)[0])
    assert "head_address" not in source.text, "the head runs on an instance"
    document = plan_new(source)
    (note,) = document["warnings"]
    assert "shipped catalogue of 20" in note and "is unknown" in note and "no Azure subscription is known" in note
    assert document["cost"]["after"] > 0, "the head is there from the start"
    assert document["cost"]["max"] <= source.spec.limits.cost_per_hour
    for pool, offers in offers_of(tmp_path / "again", name).items():
        assert offers, f"the catalogue has no type of pool {pool}"


@pytest.mark.parametrize("name", STARTERS)
def test_the_docs_say_what_a_starter_costs_and_which_quotas_it_needs(
    name: str, cloud: AzureCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"subscription": SUBSCRIPTION, "region": REGION, "endpoint_url": cloud.url}
    skus = Skus(Calls(settings))
    assert skus.all()
    for variable in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AZURE_CONFIG_DIR", str(tmp_path / "az"))
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "dev")
    row = row_of(tmp_path, name, skus)
    assert row in DOCS.read_text(), f"docs/azure.md is out of date; it should have the line\n{row}"


def test_the_date_of_the_prices_in_the_docs_is_the_catalogues(nowhere: None, tmp_path: Path) -> None:
    dates = {offer.price_date for found in offers_of(tmp_path, "azure").values() for offer in found}
    assert f"by the catalogue ({dates.pop()}" in DOCS.read_text() and not dates


@pytest.mark.parametrize("name", STARTERS)
def test_what_a_starter_names_is_there(name: str, cloud: AzureCloud, tmp_path: Path) -> None:
    file = write_starter(name, tmp_path)[0]
    more = f'subscription: {SUBSCRIPTION}, endpoint_url: "{cloud.url}", region: eastus'
    file.write_text(file.read_text().replace("region: eastus", more))
    review_spec(read_spec(file))


def test_a_plan_with_credentials_asks_azure(cloud: AzureCloud, tmp_path: Path) -> None:
    cloud.retail.rates["Standard_D2s_v5"] = 0.28
    text = write_starter("azure", tmp_path)[0].read_text()
    asked = text.replace("region:", f'subscription: {SUBSCRIPTION}, endpoint_url: "{cloud.url}", region:')
    (tmp_path / "cluster.yaml").write_text(asked)
    document = plan_new(read_spec(tmp_path / "cluster.yaml"))
    assert document["cost"]["after"] == pytest.approx(0.28) and document["warnings"] == []


def test_rights_that_are_missing_are_told_with_the_catalogues_prices(cloud: AzureCloud, tmp_path: Path) -> None:
    cloud.world.denied = {"Microsoft.Compute/skus/read"}
    source = write_starter("azure", tmp_path)[0]
    more = f'subscription: {SUBSCRIPTION}, endpoint_url: "{cloud.url}", region:'
    source.write_text(source.read_text().replace("region:", more))
    (note,) = plan_new(read_spec(source))["warnings"]
    assert "Microsoft.Compute/skus/read" in note


def test_the_note_stands_on_the_terminal(nowhere: None, tmp_path: Path) -> None:
    source = write_starter("azure-gpu", tmp_path)[0]
    command = [sys.executable, "-m", "clusterctl", "plan", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert "+ node head-1: Standard_D2s_v5 on-demand" in done.stdout
    assert "warning: prices are those of the shipped catalogue of" in done.stdout


def test_a_launch_never_falls_back_to_the_catalogue(nowhere: None, tmp_path: Path) -> None:
    settings = {"region": "eastus", "subscription": SUBSCRIPTION}
    provider = AzureProvider(ProviderContext("demo", "u", str(tmp_path), settings))
    with pytest.raises(AuthFailed):
        provider.offers(PoolRequest("cpu", {"instances": ["Standard_D2s_v5"]}))
