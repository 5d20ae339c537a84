"""A cluster that may be anywhere, on the command line, rehearsed in pretended clouds whose machines are processes here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterctl.spec.load import parse_places
from tests.cli.conftest import Run
from tests.support.cluster import LocalCluster

PAGE = (Path(__file__).parents[2] / "docs" / "anywhere.md").read_text()
SPECS = [block.split("```")[0] for block in PAGE.split("```yaml\n")[1:]]
REHEARSAL = next(spec for spec in SPECS if "cluster: rehearsal" in spec)
SOLD_OUT, NOT_OFFERED, LEFT = "fake/us-east-1", "fake/eu-west-1", "fake/eu-west-2"
PRICES = """\
cluster: demo
provider:
  - fake: {region: us-east-1, types: {small: {CPU: 2, price: 0.2}}}
  - fake: {region: eu-west-1, types: {small: {CPU: 2, price: 0.1}}}
  - fake: {region: eu-west-2, types: {tiny: {CPU: 1, price: 0.01}}}
provider_order: price
engine: none
pools: [{name: cpu, instances: [small], min: 0, max: 5}]
"""


@pytest.fixture
def rehearsal(tmp_path: Path) -> Iterator[LocalCluster]:
    cluster = LocalCluster(tmp_path, REHEARSAL, "rehearsal")
    yield cluster
    cluster.clean_up()


def test_the_specs_of_the_page_are_specs() -> None:
    head = "cluster: a\nprovider: [{aws: {region: us-east-1}}, {gcp: {region: us-central1}}]\nengine: none\n"
    for spec in SPECS:
        parse_places(spec if "cluster:" in spec else head + spec)


def test_up_takes_the_first_place_that_has_it_all_and_says_why_not_the_others(rehearsal: LocalCluster) -> None:
    plan = rehearsal.cli("plan", "cluster.yaml").stdout
    assert plan.splitlines()[:5] == [
        "places, in the order in which they are tried",
        f"  {SOLD_OUT}  first  $8.10/h at once, at most $16.00/h",
        f"  {LEFT}  next   $8.10/h at once, at most $16.00/h",
        f"  {NOT_OFFERED}  out",
        "      a rehearsed cloud in eu-west-1 offers nothing for pool gpu (1 x A100)",
    ]
    up = json.loads(rehearsal.cli("up", "cluster.yaml", "--json").stdout)
    assert up["place"] == LEFT and [one["place"] for one in up["passed_over"]] == [SOLD_OUT, NOT_OFFERED]
    assert "sold out" in up["passed_over"][0]["why"]
    assert rehearsal.json("status")["place"] == rehearsal.json("explain", "gpu-1")["place"] == LEFT
    assert rehearsal.json("list")["clusters"][0]["place"] == LEFT
    assert f"place   {LEFT}" in rehearsal.cli("status").stdout

    again = rehearsal.cli("up", "cluster.yaml")
    assert f"cluster rehearsal is in {LEFT} and stays there; to have it elsewhere" in again.stderr
    assert rehearsal.json("plan", "cluster.yaml")["actions"] == []
    moved = rehearsal.cli("up", "cluster.yaml", "--place", SOLD_OUT, code=5).stderr
    assert f"is in {LEFT} and stays there, but `--place {SOLD_OUT}` asks for another" in moved
    rehearsal.down()
    assert rehearsal.json("list")["clusters"] == [] and rehearsal.processes() == []


def test_where_prices_decide_the_whole_cluster_is_compared(run: Run, tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(PRICES)
    document = json.loads(run("plan", "cluster.yaml", "--json").stdout)
    assert [(one["place"], one["state"]) for one in document["places"]] == [
        (NOT_OFFERED, "first"),
        (SOLD_OUT, "next"),
        (LEFT, "out"),
    ]
    assert document["place"] == NOT_OFFERED and document["cost"] == {"before": 0.0, "after": 0.1, "max": 0.6}
    assert document["places"][2]["cost"] == {"after": None, "max": None}


def test_a_place_that_is_too_dear_for_the_limits_is_out(run: Run, tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(PRICES.replace("min: 0", "min: 4") + "limits: {cost_per_hour: 0.7}\n")
    document = json.loads(run("plan", "cluster.yaml", "--json").stdout)
    assert [(one["place"], one["state"]) for one in document["places"]][:2] == [
        (NOT_OFFERED, "first"),
        (SOLD_OUT, "out"),
    ]
    assert "limits.cost_per_hour" in document["places"][1]["why"][0]


def test_a_plan_of_one_place_is_carried_out_there_or_nowhere(run: Run, tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(PRICES)
    (tmp_path / "plan.json").write_text(run("plan", "cluster.yaml", "--json").stdout)
    (tmp_path / "cluster.yaml").write_text(PRICES.replace("price: 0.2", "price: 0.05"))
    done = run("up", "cluster.yaml", "--plan", "plan.json")
    assert done.returncode == 5 and "its place and actions and cost differ" in done.stderr


def test_where_every_place_is_out_plan_says_why_and_ends_with_1(run: Run, tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(PRICES.replace("[small]", "[huge]"))
    done = run("plan", "cluster.yaml")
    assert done.returncode == 1 and done.stdout.count("has no type 'huge'") == 3
    assert done.stdout.endswith("cluster demo: no place is left\n  nothing to do\n"), "and nothing to pay"
    failed = run("up", "cluster.yaml")
    assert failed.returncode == 1 and "no place has what cluster 'demo' needs at this moment" in failed.stderr
    assert not (tmp_path / "home" / "clusters" / "demo").exists()


def test_validate_names_the_places_and_who_takes_one_asks_which(run: Run, tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(PRICES)
    assert f"which may be in {SOLD_OUT}, {NOT_OFFERED}, {LEFT}" in run("validate", "cluster.yaml").stdout
    simulated = run("simulate", "cluster.yaml", "--policy", "default")
    assert simulated.returncode == 2 and "lists 3 places, and this takes one: choose with --place" in simulated.stderr
    assert run("simulate", "cluster.yaml", "--policy", "default", "--place", SOLD_OUT).returncode == 0
    wrong = run("plan", "cluster.yaml", "--place", "fake/us")
    assert wrong.returncode == 2 and "--place fake/us: cluster.yaml names no such place" in wrong.stderr
