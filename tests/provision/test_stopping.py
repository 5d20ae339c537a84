"""Nodes that are stopped and started again: journalled first, billed while they run, and ended where that is impossible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from clusterctl_providers.base import PoolRequest

from clusterctl.core.model import Drain, Mark, NodeState, Reason, Start, Stop
from clusterctl.provision.journal.book import Journal
from clusterctl.provision.provisioner import Outcome
from tests.provision.stage import SPEC, START, Stage, launch, offer

SetStage = Callable[..., Stage]
IDLE = Reason("idle", "nothing wants it")
WANTED = Reason("demand", "a job waits for it")


def running(stage: Stage, node_id: str = "cpu-1", **offered: Any) -> str:
    """A node that is ready; returns its instance."""
    (outcome,) = stage.apply(launch(node_id, of=offer(**offered)))
    assert outcome.ok and outcome.node
    stage.now += 10
    stage.provisioner.observe()
    stage.journal.move(node_id, "joined", stage.now)
    stage.journal.move(node_id, "ready", stage.now)
    return outcome.node.instance_id


def stop(stage: Stage, node_id: str, instance: str) -> Outcome:
    stage.apply(Drain(node_id, IDLE))
    (outcome,) = stage.apply(Stop(node_id, instance, IDLE))
    return outcome


def see(stage: Stage, node_id: str, event: str) -> None:
    stage.provisioner.observe()
    stage.apply(Mark(node_id, event, Reason(event, "the list shows it")))


def test_a_stopped_node_is_paid_for_while_it_runs_and_not_while_it_is_stopped(stage: Stage) -> None:
    instance = running(stage)
    stage.now = START + 1800
    assert stop(stage, "cpu-1", instance).ok
    see(stage, "cpu-1", "stopped")
    assert stage.journal.spend(START + 7200).total == pytest.approx(1.0)
    stage.now = START + 7200
    (outcome,) = stage.apply(Start("cpu-1", instance, offer(), WANTED))
    assert outcome.ok and outcome.node and outcome.node.state is NodeState.REQUESTED
    assert stage.journal.spend(START + 9000).total == pytest.approx(2.0)
    stage.journal.close()
    again = Journal(stage.directory / "nodes.db")
    assert again.spend(START + 9000).total == pytest.approx(2.0), "a restart remembers what was paid"


def test_the_intent_is_on_disk_before_the_provider_is_asked(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    instance = running(stage)
    states: list[NodeState] = []
    for call in ("stop", "start"):
        plain = getattr(stage.cloud, call)

        def watched(ids: Any, plain: Any = plain) -> Any:
            node = stage.journal.get("cpu-1")
            states.append(node.state if node else NodeState.GONE)
            return plain(ids)

        monkeypatch.setattr(stage.cloud, call, watched)
    stop(stage, "cpu-1", instance)
    see(stage, "cpu-1", "stopped")
    stage.apply(Start("cpu-1", instance, offer(), WANTED))
    assert states == [NodeState.STOPPING, NodeState.REQUESTED]


def test_a_start_without_room_leaves_the_node_stopped_and_blocks_its_offer(set_stage: SetStage) -> None:
    stage = set_stage({"kind": "no_capacity", "offer": "*/za", "from": 60})
    instance = running(stage)
    stop(stage, "cpu-1", instance)
    see(stage, "cpu-1", "stopped")
    stage.now += 60
    (outcome,) = stage.apply(Start("cpu-1", instance, offer(), WANTED))
    assert not outcome.ok and outcome.code == "no_capacity" and outcome.node
    assert outcome.node.state is NodeState.STOPPED
    blocked = [block.offer_key for block in stage.provisioner.blocks(stage.now)]
    assert blocked == ["cpu/small/on-demand/za", "gpu/small/on-demand/za"], "for every pool that would take it"
    assert stage.journal.failures(START) == (), "the pool is not at fault"


def test_a_start_of_what_is_gone_fails_its_node_and_blocks_nothing(stage: Stage) -> None:
    instance = running(stage)
    stop(stage, "cpu-1", instance)
    see(stage, "cpu-1", "stopped")
    stage.cloud.terminate([instance])
    (outcome,) = stage.apply(Start("cpu-1", instance, offer(), WANTED))
    assert not outcome.ok and outcome.node and outcome.node.state is NodeState.FAILED
    assert "could not be started again" in outcome.node.reason and stage.provisioner.blocks(stage.now) == ()


def test_one_that_cannot_be_stopped_fails_and_the_others_are_stopped(set_stage: SetStage) -> None:
    stage = set_stage(types={"small": {"CPU": 1, "price": 2.0, "spot_price": 1.0}})
    stage.provisioner.use_pools([PoolRequest("cpu", {**SPEC, "market": ["spot", "on-demand"]})])
    spot = next(one for one in stage.provisioner.offers(refresh=True) if one.market == "spot")
    first = running(stage)
    (outcome,) = stage.apply(launch("cpu-2", of=spot))
    assert outcome.node
    second = outcome.node.instance_id
    stage.now += 10
    for event in ("joined", "ready"):
        stage.journal.move("cpu-2", event, stage.now)
    stage.apply(Drain("cpu-1", IDLE), Drain("cpu-2", IDLE))
    outcomes = stage.apply(Stop("cpu-1", first, IDLE), Stop("cpu-2", second, IDLE))
    assert [(o.ok, o.node.state if o.node else None) for o in outcomes] == [
        (True, NodeState.STOPPING),
        (False, NodeState.FAILED),
    ]
    assert "spot instance, which cannot be stopped" in outcomes[1].error


def test_a_plan_of_before_neither_stops_nor_starts_anything(stage: Stage) -> None:
    instance = running(stage)
    (refused,) = stage.apply(Stop("cpu-1", instance, IDLE))  # its drain was called off meanwhile
    assert refused.code == "stale_plan" and stage.calls("stop") == []
    (refused,) = stage.apply(Start("cpu-1", instance, offer(), WANTED))
    assert refused.code == "stale_plan" and stage.calls("start") == []
    stop(stage, "cpu-1", instance)
    (refused,) = stage.apply(Stop("cpu-1", "i-fake-999999", IDLE))
    assert refused.code == "stale_plan" and len(stage.calls("stop")) == 1


def test_down_ends_stopped_nodes_as_well(stage: Stage) -> None:
    instance = running(stage)
    running(stage, "cpu-2")
    stop(stage, "cpu-1", instance)
    see(stage, "cpu-1", "stopped")
    stage.provisioner.down()
    assert stage.living() == [] and stage.journal.nodes() == {}
    assert all(not scope.instances or scope.instances[0].state == "terminated" for scope in stage.cloud.list())
