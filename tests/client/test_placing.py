"""Where a cluster goes among several places, and what keeps it there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clusterctl.client.registry import Registry
from clusterctl.client.specfile import SpecFile, SpecFiles, read_places
from clusterctl.client.up import survey
from clusterctl.client.up.cloud_search import NotToBeHad
from clusterctl.client.up.placing import Placing
from clusterctl.client.up.survey import Look, in_order, plan_somewhere
from clusterctl.core.errors import ClusterctlError
from tests.support.stub_head import StubHead

SPEC = """\
cluster: demo
provider: [{fake: {region: a}}, {fake: {region: b}}, {fake: {region: c}}]
engine: none
pools: [{name: cpu, instances: [t3.micro]}]
"""


@pytest.fixture
def files(tmp_path: Path) -> SpecFiles:
    path = tmp_path / "cluster.yaml"
    path.write_text(SPEC)
    return read_places(path)


def look(source: SpecFile, at_once: float, at_most: float, *out: str) -> Look:
    plan = {"cluster": "demo", "actions": [], "cost": {"before": 0.0, "after": at_once, "max": at_most}, "warnings": []}
    return Look(source, plan, out)


def test_a_cluster_that_was_given_a_job_meanwhile_is_not_passed_over(files: SpecFiles, tmp_path: Path) -> None:
    registry, said = Registry(tmp_path / "home", {}), list[str]()
    head = StubHead(registry)
    note = head.cluster.directory / "cluster.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "trying": True}))
    head.on("GET", "/api/v1/status", (200, {"jobs": {"queued": 0, "succeeded": 1}}))
    head.start()
    try:
        placing = Placing(registry, files, "", said.append)
        with pytest.raises(
            ClusterctlError, match=r"sold out\n  it was given jobs meanwhile, so cluster 'demo' stays in fake/a"
        ):
            placing.pass_over(files.each[0], NotToBeHad("sold out"))
    finally:
        head.stop()
    assert registry.names() == ["demo"] and not placing.is_open(files.each[0])


def test_only_a_new_cluster_is_on_trial_and_nothing_makes_an_old_one_so(tmp_path: Path) -> None:
    registry = Registry(tmp_path, {})
    known: dict[str, Any] = {"provider": "fake", "engine": "none", "spec_path": "", "place": "fake/a"}
    assert registry.create("demo", **known, trying=True).trying
    assert registry.create("demo", **known, trying=True).trying, "an `up` that goes on"
    registry.settle(registry.load("demo"))
    assert not registry.create("demo", **known, trying=True).trying
    assert registry.create("other", **known, trying=True).trying
    assert not registry.create("other", **known).trying, "who names one place has chosen it"


def test_the_order_is_that_of_the_text_or_of_the_prices_at_max_and_what_is_out_comes_last(files: SpecFiles) -> None:
    a, b, c = files.each
    looks = [look(a, 1.0, 9.0), look(b, 3.0, 8.0, "no quota"), look(c, 2.0, 8.5)]
    assert [one.place for one in in_order(looks, cheapest=False)] == ["fake/a", "fake/c", "fake/b"]
    assert [one.place for one in in_order(looks, cheapest=True)] == ["fake/c", "fake/a", "fake/b"]
    alike = [look(a, 2.0, 9.0), look(b, 1.0, 9.0)]
    assert [one.place for one in in_order(alike, cheapest=True)] == ["fake/b", "fake/a"]
    document = plan_somewhere("demo", in_order(looks, cheapest=False))
    assert document["place"] == "fake/a" and document["cost"]["max"] == 9.0
    assert [one["state"] for one in document["places"]] == ["first", "next", "out"]
    assert document["places"][2] == {
        "place": "fake/b",
        "state": "out",
        "cost": {"after": 3.0, "max": 8.0},
        "why": ["no quota"],
    }


def test_a_place_is_looked_at_when_its_turn_comes_and_all_at_once_where_prices_decide(
    files: SpecFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clusterctl.client.up import placing as module

    asked: list[str] = []

    def asking(source: SpecFile) -> Look:
        asked.append(source.place)
        return look(source, 1.0, {"fake/a": 3.0, "fake/b": 2.0}.get(source.place, 1.0))

    monkeypatch.setattr(module, "look", asking)
    monkeypatch.setattr(survey, "look", asking)
    registry = Registry(tmp_path / "home", {})
    tried = Placing(registry, files, "", lambda _: None).candidates()
    assert next(tried)[0].place == "fake/a" and asked == ["fake/a"]
    asked.clear()
    cheapest = SpecFiles(files.path, files.each, cheapest=True, listed=True)
    order = [source.place for source, _ in Placing(registry, cheapest, "", lambda _: None).candidates()]
    assert order == ["fake/c", "fake/b", "fake/a"] and len(asked) == 3
