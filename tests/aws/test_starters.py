"""The starter specs: what each would cost, by the catalogue and without credentials, and what the docs say of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusterctl_providers.aws.provider import AwsProvider
from clusterctl_providers.aws.quotas import quota_of
from clusterctl_providers.base import PoolRequest, ProviderContext
from clusterctl_providers.catalog import instance_types

from clusterctl.client.specfile import read_spec
from clusterctl.client.up.planning import plan_new
from clusterctl.core.errors import AuthFailed
from clusterctl.core.model import Offer
from clusterctl.spec.init import write_starter
from clusterctl.spec.to_core import core_pools, pool_requests
from tests.cloud.aws.cloud import AwsCloud, credentials

STARTERS = ("aws", "aws-gpu", "aws-train", "aws-serve")
DOCS = Path(__file__).parents[2] / "docs" / "aws.md"


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No credentials, and no home with some."""
    with credentials():
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("CLUSTERCTL_HOME", str(tmp_path / "home"))
        yield


def offers_of(directory: Path, name: str) -> dict[str, list[Offer]]:
    """Pool -> offers of the catalogue, the head's pool among them."""
    source = read_spec(write_starter(name, directory)[0])
    provider = AwsProvider(ProviderContext(name, "", str(directory), source.spec.provider_settings))
    requests = pool_requests(source.spec)
    return {
        pool.name: provider.catalogue_offers(PoolRequest(pool.name, requests[pool.name], pool.role))
        for pool in core_pools(source.spec)
    }


def row_of(directory: Path, name: str) -> str:
    """The starter's row of the table in docs/aws.md."""
    offers = offers_of(directory, name)
    plan = plan_new(read_spec(directory / "cluster.yaml"))
    vcpus = {machine.name: machine.vcpus for machine in instance_types("aws")}
    head = min(offers.pop("head"), key=lambda offer: offer.price)
    ((pool, found),) = offers.items()
    most = next(p.max for p in read_spec(directory / "cluster.yaml").spec.pools if p.name == pool)
    prices = []
    for market in ("on-demand", "spot"):
        here = [offer for offer in found if offer.market == market]
        if here:
            cheapest = min(here, key=lambda offer: offer.price)
            prices.append(f"{cheapest.instance_type} {cheapest.price:.2f}{' spot' if market == 'spot' else ''}")
    wanted: dict[str, int] = {quota_of(head.instance_type, "on-demand").name: vcpus[head.instance_type]}
    for market in sorted({offer.market for offer in found}):
        cheapest = min((o for o in found if o.market == market), key=lambda o: o.price)
        quota = quota_of(cheapest.instance_type, market).name
        wanted[quota] = wanted.get(quota, 0) + most * vcpus[cheapest.instance_type]
    quotas = ", ".join(f"{quota}: {count}" for quota, count in wanted.items())
    return (
        f"| `{name}` | {head.instance_type} {head.price:.2f} | {', '.join(prices)} | {plan['cost']['max']:.2f} with {most} "
        f"| {quotas} |"
    )


@pytest.mark.parametrize("name", STARTERS)
def test_a_starter_is_planned_without_credentials_by_the_catalogue_of_a_date(
    name: str, nowhere: None, tmp_path: Path
) -> None:
    source = read_spec(write_starter(name, tmp_path)[0])
    assert "head_address" not in source.text, "the head runs on EC2"
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
    assert row in DOCS.read_text(), f"docs/aws.md is out of date; it should have the line\n{row}"


def test_the_date_of_the_prices_in_the_docs_is_the_catalogues(nowhere: None, tmp_path: Path) -> None:
    dates = {offer.price_date for found in offers_of(tmp_path, "aws").values() for offer in found}
    assert f"by the catalogue ({dates.pop()}" in DOCS.read_text() and not dates


def test_a_plan_with_credentials_asks_aws(cloud: AwsCloud, tmp_path: Path) -> None:
    cloud.world.prices = {"m6i.large": 0.5}
    text = write_starter("aws", tmp_path)[0].read_text()
    asked = text.replace("vpc: default", f'vpc: default, endpoint_url: "{cloud.url}"')
    (tmp_path / "cluster.yaml").write_text(asked)
    document = plan_new(read_spec(tmp_path / "cluster.yaml"))
    assert document["cost"]["after"] == 0.5 and document["warnings"] == []


def test_a_line_that_is_cut_is_told_with_the_catalogues_prices(cloud: AwsCloud, tmp_path: Path) -> None:
    cloud.world.denied = {"ec2:DescribeVpcs"}
    source = write_starter("aws", tmp_path)[0]
    source.write_text(source.read_text().replace("vpc: default", f'endpoint_url: "{cloud.url}"'))
    (note,) = plan_new(read_spec(source))["warnings"]
    assert "lack the permission ec2:DescribeVpcs" in note


def test_the_note_stands_on_the_terminal(nowhere: None, tmp_path: Path) -> None:
    source = write_starter("aws-gpu", tmp_path)[0]
    command = [sys.executable, "-m", "clusterctl", "plan", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert "+ node head-1: m6i.large on-demand" in done.stdout
    assert "warning: prices are those of the shipped catalogue of" in done.stdout


def test_a_launch_never_falls_back_to_the_catalogue(nowhere: None, tmp_path: Path) -> None:
    provider = AwsProvider(ProviderContext("demo", "u", str(tmp_path), {"region": "us-east-1"}))
    with pytest.raises(AuthFailed):
        provider.offers(PoolRequest("cpu", {"instances": ["t3.micro"]}))
