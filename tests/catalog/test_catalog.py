"""The shipped catalogue: facts with a source and a date, and nothing that is not believed."""

from __future__ import annotations

import datetime
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers import catalog
from clusterctl_providers.catalog.facts import Price, price_fault
from clusterctl_providers.catalog.listing import list_offers

from clusterctl.cli.render.offers import render_offers

ROOT = Path(__file__).resolve().parents[2]
TODAY = "2026-11-23"


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLUSTERCTL_HOME", str(tmp_path))
    return tmp_path


def a_price(**changes: object) -> Price:
    fields = {"on_demand": 1.0, "spot": None, **changes}
    return Price("aws", "us-east-1", "g6.xlarge", source="test", as_of=TODAY, **fields)  # type: ignore[arg-type]


def g6() -> catalog.InstanceType:
    return catalog.load().instances["aws", "g6.xlarge"]


def test_every_price_has_a_source_and_a_date_and_is_above_zero() -> None:
    shipped = catalog.load()
    prices = [p for by_type in shipped.prices.values() for p in by_type.values()]
    assert len(prices) > 6000
    for price in prices:
        assert price.source
        datetime.date.fromisoformat(price.as_of)
        assert price.on_demand > 0
        assert price.spot is None or 0 < price.spot < price.on_demand
    assert shipped.refused == ()


def test_the_three_clouds_are_known_offline() -> None:
    for provider, region, name in [
        ("aws", "us-east-1", "p5.48xlarge"),
        ("gcp", "us-central1", "a2-highgpu-1g"),
        ("azure", "eastus", "Standard_NC24ads_A100_v4"),
    ]:
        assert any(machine.name == name for machine in catalog.instance_types(provider))
        assert catalog.prices(provider, region)[name].on_demand > 1
    assert catalog.instance_types("ssh") == []
    assert catalog.prices("aws", "mars-1") == {}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"on_demand": 0.0}, "not above zero"),
        ({"on_demand": -3.0}, "not above zero"),
        ({"on_demand": float("nan")}, "not above zero"),
        ({"on_demand": float("inf")}, "not above zero"),
        ({"spot": 0.0}, "not above zero"),
        ({"spot": 1.5}, "not below the on-demand price"),
        ({"on_demand": 700.0}, "per accelerator, outside"),
        ({"on_demand": 0.0001}, "per accelerator, outside"),
    ],
)
def test_a_zero_negative_or_absurd_price_is_refused_with_a_sentence(changes: dict[str, float], words: str) -> None:
    fault = price_fault(a_price(**changes), g6())
    assert words in fault
    assert "aws g6.xlarge in us-east-1" in fault


def test_a_price_of_an_unknown_type_is_refused() -> None:
    assert "knows no such instance type" in price_fault(a_price(), None)


def test_a_refresh_keeps_believed_prices_for_later_runs_and_names_the_refused(own_home: Path) -> None:
    newer = a_price(on_demand=0.79, spot=0.31)
    done = catalog.refresh(
        "aws",
        lambda _: [
            newer,
            a_price(on_demand=0.0),
            replace(newer, provider="gcp"),
            replace(newer, instance_type="g99.huge"),
        ],
    )
    assert done.accepted == 1
    assert len(done.refused) == 3
    assert done.path.parent == own_home / "catalog"
    assert catalog.prices("aws", "us-east-1")["g6.xlarge"] == newer
    assert catalog.prices("aws", "us-east-1")["g5.xlarge"].source == "karpenter-aws"


def test_a_refresh_that_brings_nothing_leaves_the_older_prices(own_home: Path) -> None:
    catalog.refresh("aws", lambda _: [a_price(on_demand=0.79)])
    done = catalog.refresh("aws", lambda _: [a_price(on_demand=0.0)])
    assert done.accepted == 0
    assert catalog.prices("aws", "us-east-1")["g6.xlarge"].on_demand == 0.79


def test_a_damaged_file_of_a_refresh_is_reported_and_the_shipped_prices_stay(own_home: Path) -> None:
    directory = own_home / "catalog"
    directory.mkdir()
    (directory / "aws.csv").write_text("provider,region\naws,us-east-1\n")
    loaded = catalog.load()
    assert any("aws.csv" in sentence for sentence in loaded.refused)
    assert loaded.prices["aws", "us-east-1"]["g6.xlarge"].source == "karpenter-aws"


def test_the_script_makes_the_same_bytes_from_the_same_rows(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; sys.path.insert(0, 'scripts'); import make_catalog as m;"
        "m.TARGET = pathlib.Path(sys.argv[2]); m.main(pathlib.Path(sys.argv[1]))"
    )
    source, one, two = tmp_path / "source", tmp_path / "one", tmp_path / "two"
    for directory in (source, one, two):
        directory.mkdir()
    (source / "instances.csv").write_text(
        "provider,instance_type,arch,vcpus,memory_gib,gpu_vendor,gpu_name,gpu_count,gpu_memory_gib,source,as_of\n"
        "aws,g6.xlarge,x86_64,4,16,nvidia,L4,1,24,s,2026-01-01\n"
    )
    header = "provider,region,instance_type,on_demand_usd_per_hour,spot_usd_per_hour,source,as_of\n"
    rows = "aws,r1,g6.xlarge,0.8,,s,2026-01-01\naws,r2,g6.xlarge,0,,s,2026-01-01\n"
    (source / "prices.csv").write_text(header + rows)
    for target in (one, two):
        done = subprocess.run(
            [sys.executable, "-c", program, str(source), str(target)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert "refused: aws g6.xlarge in r2: on-demand price 0.0 is not above zero" in done.stdout
    for name in ("instances.csv.gz", "prices.csv.gz"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_the_listing_shows_source_and_date_and_marks_estimated_spot_prices() -> None:
    document = list_offers("L4:1", provider="aws", region="us-east-1")
    assert document["offers"][0]["instance_type"] == "g6.xlarge"
    assert all(row["gpu_count"] == 1 and row["source"] and row["as_of"] for row in document["offers"])
    assert document["offers"][0]["spot_source"] == "estimate"
    text = render_offers(document)
    assert "g6.xlarge" in text
    assert "karpenter-aws" in text
    assert "estimated" in text


def test_the_listing_shows_each_type_once_in_its_cheapest_region() -> None:
    rows = list_offers("A100", provider="gcp")["offers"]
    names = [row["instance_type"] for row in rows]
    assert len(names) == len(set(names)) > 3
    assert [row["on_demand"] for row in rows] == sorted(row["on_demand"] for row in rows)


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"gpu": "L5"}, "GPUs in the catalogue: A10, A100"),
        ({"gpu": "L4:many"}, "expected NAME or NAME:COUNT"),
        ({"provider": "ibm"}, "the catalogue has aws, azure, gcp"),
        ({"provider": "aws", "region": "us-central1"}, "us-east-1"),
    ],
)
def test_a_listing_of_nothing_names_what_is_known(filters: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        list_offers(**filters)
