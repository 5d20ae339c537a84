"""A list that lacks a page and does not know it: what a look-up by id shows is not gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from clusterctl_providers.base import Provider

from clusterctl.core.errors import ClusterctlError, ProviderError
from clusterctl.core.model import Instance, Mark, NodeState, NodeView, Observed, Policy, Pool, State
from clusterctl.core.planner import plan
from clusterctl.core.upkeep import count_sightings
from clusterctl.provision.gc import collect
from tests.provision.stage import UID, Stage, launch, offer

SetStage = Callable[..., Stage]
POOLS = (Pool("cpu", "hash", 0, 10, idle_timeout=3600.0),)


class Head:
    """As much of a head as decides from lists: it looks and plans, with agents that are connected, or were."""

    def __init__(self, stage: Stage, provider: Provider | None = None) -> None:
        self.stage = stage
        if provider is not None:
            stage.provisioner = stage.open({"fake": provider})
        self.sightings: tuple[tuple[str, int], ...] = ()
        self.observed: tuple[Observed, ...] = ()

    def bring_up(self, *names: str) -> list[str]:
        """Nodes that run and whose agents have joined; the ids of their instances."""
        stage = self.stage
        stage.apply(*(launch(name) for name in names))
        stage.now += 30
        for name in names:
            for event in ("running", "joined", "ready"):
                stage.journal.move(name, event, stage.now)
        self.look()
        return [stage.journal.nodes()[name].instance_id for name in names]

    def look(self) -> dict[str, Mark]:
        """One observation and what it makes of nodes: their marks, by node."""
        stage = self.stage
        stage.now += 5
        self.observed = stage.provisioner.observe()
        self.sightings = count_sightings(self.state(), self.observed)
        made = plan(Policy(), self.observed, self.state(), (), (), stage.now)
        marks = {action.node_id: action for action in made.actions if isinstance(action, Mark)}
        for name, mark in marks.items():
            stage.journal.move(name, mark.event, stage.now, mark.reason.text, mark.reason.code)
        return marks

    def state(self) -> State:
        now = self.stage.now
        nodes = self.stage.journal.nodes().values()
        views = [NodeView(n, n.offer.resources, n.offer.resources, heartbeat=now) for n in nodes]  # each agent is heard
        return State("demo", UID, POOLS, tuple(views), sightings=self.sightings)


class Forgetful:
    """A provider that answers look-ups in its own way."""

    def __init__(self, inner: Any, answer: Callable[[Sequence[str]], dict[str, Instance]]) -> None:
        self._inner, self.look_up = inner, answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


MISSING = {"kind": "missing_pages", "from": 33}


def test_connected_nodes_that_lists_lack_for_ever_are_not_gone(set_stage: SetStage) -> None:
    head = Head(set_stage(MISSING))
    ids = head.bring_up("cpu-1", "cpu-2")
    for _ in range(5):
        assert head.look() == {}
    assert all(node.state is NodeState.READY for node in head.stage.journal.nodes().values())
    (scope,) = [scope for scope in head.observed if scope.scope == "za"]
    assert not scope.complete and scope.recorded and ids[0] in scope.error and "shows when asked by id" in scope.error
    assert {i.id for i in scope.instances} == set(ids)


def test_a_node_that_is_gone_is_noticed_though_its_agents_connection_looks_alive(set_stage: SetStage) -> None:
    stage = set_stage()
    head = Head(stage)
    (one,) = head.bring_up("cpu-1")
    stage.cloud.terminate([one])
    marks = head.look()
    assert marks["cpu-1"].event == "gone"
    assert marks["cpu-1"].reason.code == "instance_ended" and "terminate" in marks["cpu-1"].reason.text


def test_an_id_that_nobody_knows_any_more_is_gone_after_two_looks(stage: Stage) -> None:
    head = Head(stage, Forgetful(stage.cloud, lambda ids: {}))
    (one,) = head.bring_up("cpu-1")
    stage.cloud.terminate([one])
    assert head.look() == {}
    assert head.look()["cpu-1"].reason.code == "instance_gone"


def test_a_node_that_is_gone_is_noticed_while_the_list_lacks_others(set_stage: SetStage) -> None:
    stage = set_stage(MISSING)
    head = Head(stage)
    _, second = head.bring_up("cpu-1", "cpu-2")
    assert head.look() == {}
    stage.cloud.terminate([second])
    assert {name: mark.event for name, mark in head.look().items()} == {"cpu-2": "gone"}
    assert head.look() == {}


def test_a_look_up_that_fails_leaves_everything_in_doubt(set_stage: SetStage) -> None:
    stage = set_stage(MISSING)

    def refuse(ids: Sequence[str]) -> dict[str, Instance]:
        raise ProviderError("the credentials have lapsed")

    head = Head(stage, Forgetful(stage.cloud, refuse))
    (one,) = head.bring_up("cpu-1")
    for _ in range(4):
        assert head.look() == {}
    (scope,) = [scope for scope in head.observed if scope.scope == "za"]
    assert not scope.complete and not scope.recorded
    assert one in scope.error and "the credentials have lapsed" in scope.error


def test_one_zones_fault_leaves_the_others_list_as_it_is(set_stage: SetStage) -> None:
    stage = set_stage({**MISSING, "scope": "za"})
    head = Head(stage)
    head.bring_up("cpu-1")
    stage.apply(launch("cpu-2", of=offer(zone="zb")))
    head.look()
    assert {scope.scope: scope.complete for scope in head.observed} == {"za": False, "zb": True}


def test_an_instance_that_lost_our_tags_is_not_ours(set_stage: SetStage) -> None:
    stage = set_stage(MISSING)

    def of_another(ids: Sequence[str]) -> dict[str, Instance]:
        return {i: Instance(i, "", "", 0, "running") for i in ids}

    head = Head(stage, Forgetful(stage.cloud, of_another))
    head.bring_up("cpu-1")
    marks = head.look() | head.look()
    assert marks["cpu-1"].event == "gone" and all(scope.complete for scope in head.observed)


def test_nothing_is_looked_up_where_the_list_shows_all(stage: Stage) -> None:
    head = Head(stage)
    head.bring_up("cpu-1", "cpu-2")
    head.look()
    assert stage.calls("look_up") == []


def test_a_launch_that_the_list_does_not_show_yet_is_no_fault_of_the_list(set_stage: SetStage) -> None:
    head = Head(set_stage({"kind": "stale_list", "seconds": 60}))
    head.stage.apply(launch("cpu-1"))
    assert head.look() == {} and all(scope.complete for scope in head.observed)


@pytest.mark.parametrize("recorded", [True, False], ids=["on record", "without a record"])
def test_down_does_not_end_while_instances_live_that_the_lists_lack(set_stage: SetStage, recorded: bool) -> None:
    stage = set_stage({**MISSING, "times": 8})
    head = Head(stage)
    head.bring_up("cpu-1", "cpu-2")
    if not recorded:
        stage.journal.move("cpu-1", "gone", stage.now)
        stage.journal.move("cpu-2", "gone", stage.now)
    stage.provisioner.down()
    stage.now += 1000
    assert stage.living() == [] and stage.journal.nodes() == {}


def test_down_that_cannot_ask_says_so_instead_of_ending(set_stage: SetStage) -> None:
    stage = set_stage(MISSING, {"kind": "throttled", "call": "look_up"}, {"kind": "throttled", "call": "terminate"})
    head = Head(stage)
    (one,) = head.bring_up("cpu-1")
    with pytest.raises(ClusterctlError, match="could not end everything"):
        stage.provisioner.down(patience=60)
    assert one and stage.journal.nodes()


class ShortOfPages:
    """A provider whose lists are empty, and call themselves complete, from the `first` to the `last` of them."""

    def __init__(self, inner: Any, first: int, last: int) -> None:
        self._inner, self._short, self._lists = inner, range(first, last + 1), 0

    def list(self) -> list[Observed]:
        self._lists += 1
        scopes = self._inner.list()
        return [replace(s, instances=()) for s in scopes] if self._lists in self._short else scopes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_gc_is_not_done_while_what_it_saw_lives_and_is_not_listed(stage: Stage) -> None:
    head = Head(stage)
    head.bring_up("cpu-1", "cpu-2")
    lost = ShortOfPages(stage.open_cloud("cloud", []), 2, 6)
    (stray,) = collect(
        {("fake", ""): lambda name, uid: lost if uid else stage.open_cloud("cloud", [], uid="")},
        lambda uid: False,
        stage.now,
        dry_run=False,
        clock=lambda: stage.now,
        pause=stage.pause,
    )
    assert stray.removed and len(stray.instance_ids) == 2
    assert stage.living() == []
