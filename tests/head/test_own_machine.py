"""A head on an instance of its own uses its provider through a guard, and no rule of the provider's is lost on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from clusterctl_providers.base import TAG_TOKEN, TAG_UID, CreateRequest, HasLeftovers, HasMost, PoolRequest
from clusterctl_runtime.head.handover import OwnMachine

from clusterctl.provision.pools import PoolBook
from tests.provision.stage import SPEC, START, Stage, launch, offer

OWN = "i-own"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    place = Stage(tmp_path)
    yield place
    place.close()


def test_what_is_free_of_a_reservation_is_asked_anew_for_each_plan(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its provider says that its offers do not last: the head believes it, also through the guard."""
    free, cloud = [offer()], stage.cloud
    monkeypatch.setattr(cloud, "offers_last", 0.0, raising=False)
    monkeypatch.setattr(cloud, "offers", lambda pool: list(free))
    book = PoolBook({"fake": OwnMachine.around(cloud, OWN)}, lambda pool: "fake")
    book.use([PoolRequest("cpu", SPEC)])
    assert book.offers(START, refresh=False) == (offer(),)
    free.clear()
    assert book.offers(START + 1, refresh=False) == ()


def test_its_down_waits_for_launches_under_way(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its predecessor was killed while it launched: what the provider still works on is in no list yet."""
    node, cloud = stage.journal.intend(launch(), stage.now), stage.cloud
    monkeypatch.setattr(cloud, "in_flight_seconds", 5.0, raising=False)
    provisioner = stage.open({"fake": OwnMachine.around(cloud, OWN)})
    tags = {TAG_UID: provisioner.uid, TAG_TOKEN: node.token}
    request = CreateRequest(node.token, node.id, 1, node.offer, tags, {}, PoolRequest("cpu", SPEC))
    monkeypatch.setattr(provisioner, "_pause", _late(stage, lambda: cloud.create([request])))
    provisioner.down()
    assert stage.calls("create") and stage.living() == [] and stage.now >= START + 5


def _late(stage: Stage, then: Callable[[], object]) -> Callable[[float], None]:
    def pause(seconds: float) -> None:
        stage.pause(seconds)
        if stage.now >= START + 4 and not stage.calls("create"):
            then()

    return pause


def test_hosts_beside_the_cloud_are_counted_as_well(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool of machines that exist already: the planner is told how many there are."""
    monkeypatch.setattr(stage.cloud, "most", lambda pool: 3, raising=False)
    own = OwnMachine.around(stage.cloud, OWN)
    assert isinstance(own, HasMost) and own.most(PoolRequest("cpu", SPEC)) == 3
    monkeypatch.undo()
    assert not isinstance(OwnMachine.around(stage.cloud, OWN), HasMost)


def test_what_the_cluster_has_beside_instances_is_left_to_who_ends_the_heads_machine(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A security group cannot go before the machine that the head runs on."""
    swept: list[str] = []
    monkeypatch.setattr(stage.cloud, "sweep", lambda: swept.append("all") or [], raising=False)
    own = OwnMachine.around(stage.cloud, OWN)
    assert isinstance(own, HasLeftovers) and own.sweep() == [] and swept == []


@pytest.mark.parametrize("state", ["stopping", "stopped"])
def test_its_machine_runs_for_as_long_as_it_does_whoever_stops_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """What it wrote down in its last seconds is there when the machine is started again: it would end itself."""
    stage.apply(launch("cpu-1"), launch("cpu-2"))
    own, other = stage.living()
    found = stage.cloud.list()
    off = [replace(s, instances=tuple(replace(i, state=state) for i in s.instances)) for s in found]
    monkeypatch.setattr(stage.cloud, "list", lambda: off)
    monkeypatch.setattr(stage.cloud, "look_up", lambda ids: {i.id: i for s in off for i in s.instances if i.id in ids})
    head = OwnMachine.around(stage.cloud, own)
    seen = {i.id: i.state for scope in head.list() for i in scope.instances}
    assert seen == {own: "running", other: state}
    assert {i: found.state for i, found in head.look_up([own, other]).items()} == seen
