"""The starter specs: what each would cost, by the catalogue and without credentials, and what the docs say of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusterctl_providers.base import PoolRequest, ProviderContext
from clusterctl_providers.catalog import instance_types
from clusterctl_providers.gcp.market.quotas import quotas_of
from clusterctl_providers.gcp.provider import GcpProvider

from clusterctl.client.specfile import read_spec
from clusterctl.client.up.planning import plan_new
from clusterctl.client.up.review import review_spec
from clusterctl.core.errors import AuthFailed
from clusterctl.core.model import Offer
from clusterctl.spec.init import write_starter
from clusterctl.spec.to_core import core_pools, pool_requests
from tests.cloud.gcp.cloud import GcpCloud
from tests.cloud.gcp.world import PROJECT

STARTERS = ("gcp", "gcp-gpu", "gcp-train", "gcp-serve")
DOCS = Path(__file__).parents[2] / "docs" / "gcp.md"


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No credentials, and no home with some."""
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLUSTERCTL_HOME", str(tmp_path / "home"))
    yield


def offers_of(directory: Path, name: str) -> dict[str, list[Offer]]:
    """Pool -> offers of the catalogue, the head's pool among them."""
    source = read_spec(write_starter(name, directory)[0])
    provider = GcpProvider(ProviderContext(name, "", str(directory), source.spec.provider_settings))
    requests = pool_requests(source.spec)
    return {
        pool.name: provider.catalogue_offers(PoolRequest(pool.name, requests[pool.name], pool.role))
        for pool in core_pools(source.spec)
    }


def row_of(directory: Path, name: str) -> str:
    """The starter's row of the table in docs/gcp.md."""
    offers = offers_of(directory, name)
    plan = plan_new(read_spec(directory / "cluster.yaml"))
    head = min(offers.pop("head"), key=lambda offer: offer.price)
    ((pool, found),) = offers.items()
    most = next(p.max for p in read_spec(directory / "cluster.yaml").spec.pools if p.name == pool)
    prices, wanted = [], quotas_for(head, 1)
    per_pool: dict[str, float] = {}
    for market in ("on-demand", "spot"):
        here = [offer for offer in found if offer.market == market]
        if here:
            cheapest = min(here, key=lambda offer: offer.price)
            prices.append(f"{cheapest.instance_type} {cheapest.price:.2f}{' spot' if market == 'spot' else ''}")
            for quota, count in quotas_for(cheapest, most).items():
                per_pool[quota] = max(count, per_pool.get(quota, 0))
    for quota, count in per_pool.items():
        wanted[quota] = wanted.get(quota, 0) + count
    quotas = ", ".join(f"`{quota}` {count:g}" for quota, count in wanted.items())
    return (
        f"| `{name}` | {head.instance_type} {head.price:.2f} | {', '.join(prices)} | {plan['cost']['max']:.2f} with {most} "
        f"| {quotas} |"
    )


def quotas_for(offer: Offer, count: int) -> dict[str, float]:
    """Of a project that has no quotas of its own for machines that are taken away."""
    machine = next(machine for machine in instance_types("gcp") if machine.name == offer.instance_type)
    return {quota.code: count * each for quota, each in quotas_of(machine, offer.market, lambda quota: None)}


@pytest.mark.parametrize("name", STARTERS)
def test_a_starter_is_planned_without_credentials_by_the_catalogue_of_a_date(
    name: str, nowhere: None, tmp_path: Path
) -> None:
    source = read_spec(write_starter(name, tmp_path)[0])
    assert "head_address" not in source.text, "the head runs on an instance"
    document = plan_new(source)
    (note,) = document["warnings"]
    assert "shipped catalogue of 20" in note and "is unknown" in note and "credentials" in note
    assert document["cost"]["after"] > 0, "the head is there from the start"
    assert document["cost"]["max"] <= source.spec.limits.cost_per_hour
    for pool, offers in offers_of(tmp_path / "again", name).items():
        assert offers, f"the catalogue has no type of pool {pool}"


@pytest.mark.parametrize("name", STARTERS)
def test_the_docs_say_what_a_starter_costs_and_which_quotas_it_needs(name: str, nowhere: None, tmp_path: Path) -> None:
    row = row_of(tmp_path, name)
    assert row in DOCS.read_text(), f"docs/gcp.md is out of date; it should have the line\n{row}"


def test_the_date_of_the_prices_in_the_docs_is_the_catalogues(nowhere: None, tmp_path: Path) -> None:
    dates = {offer.price_date for found in offers_of(tmp_path, "gcp").values() for offer in found}
    assert f"by the catalogue ({dates.pop()}" in DOCS.read_text() and not dates


@pytest.mark.parametrize("name", STARTERS)
def test_what_a_starter_names_is_there(name: str, cloud: GcpCloud, tmp_path: Path) -> None:
    file = write_starter(name, tmp_path)[0]
    more = f'project: {PROJECT}, endpoint_url: "{cloud.url}", region: us-central1'
    file.write_text(file.read_text().replace("region: us-central1", more))
    review_spec(read_spec(file))


def test_a_plan_with_credentials_asks_google(cloud: GcpCloud, tmp_path: Path) -> None:
    cloud.billing.rates |= {"E2 Instance Core": 0.1, "E2 Instance Ram": 0.01}
    text = write_starter("gcp", tmp_path)[0].read_text()
    asked = text.replace("region:", f'project: {PROJECT}, endpoint_url: "{cloud.url}", region:')
    (tmp_path / "cluster.yaml").write_text(asked)
    document = plan_new(read_spec(tmp_path / "cluster.yaml"))
    assert document["cost"]["after"] == pytest.approx(0.28) and document["warnings"] == []


def test_rights_that_are_missing_are_told_with_the_catalogues_prices(cloud: GcpCloud, tmp_path: Path) -> None:
    cloud.world.denied = {"compute.regions.get"}
    source = write_starter("gcp", tmp_path)[0]
    more = f'project: {PROJECT}, endpoint_url: "{cloud.url}", region:'
    source.write_text(source.read_text().replace("region:", more))
    (note,) = plan_new(read_spec(source))["warnings"]
    assert "lack the permission compute.regions.get" in note


def test_the_note_stands_on_the_terminal(nowhere: None, tmp_path: Path) -> None:
    source = write_starter("gcp-gpu", tmp_path)[0]
    command = [sys.executable, "-m", "clusterctl", "plan", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert "+ node head-1: e2-standard-2 on-demand" in done.stdout
    assert "warning: prices are those of the shipped catalogue of" in done.stdout


def test_a_launch_never_falls_back_to_the_catalogue(nowhere: None, tmp_path: Path) -> None:
    provider = GcpProvider(ProviderContext("demo", "u", str(tmp_path), {"region": "us-central1"}))
    with pytest.raises(AuthFailed):
        provider.offers(PoolRequest("cpu", {"instances": ["e2-small"]}))
