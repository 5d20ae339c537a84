"""VMs that end, and those that cannot be ended: what the cluster learns of it, and what it does then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from clusterctl_providers.azure.machines import ends
from clusterctl_providers.cloud import listing

from clusterctl.core.errors import AuthFailed, BadRequest
from clusterctl.core.model import Instance, NodeState
from tests.azure.stage import DELETE, PUT, Stage, machines_of, names, pool, vms
from tests.cloud.azure.activity import ACTION, OPERATION
from tests.cloud.azure.cloud import AzureCloud
from tests.support.cluster import wait_until

VIEW = "virtualMachines.instanceView"


@pytest.fixture
def stage(cloud: AzureCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setattr(listing, "SEEN_BY", 0.0)
    place = Stage(tmp_path, cloud)
    yield place
    place.close()


def create(stage: Stage, *nodes: str, **spec: Any) -> list[str]:
    made = [stage.provider.create([stage.request(node, wanted=pool(**spec))])[0] for node in nodes]
    assert all(isinstance(instance, Instance) for instance in made), made
    return [instance.id for instance in made if isinstance(instance, Instance)]


def outcomes_of(stage: Stage, node_id: str) -> list[Any]:
    return [o.node for o in stage.want(0) if o.node and o.node.id == node_id]


def remove(cloud: AzureCloud, stage: Stage, name: str) -> None:
    """By hand, as in Azure's portal."""
    machines_of(cloud).begin_delete(stage.provider._network.group.name, name).result()


def test_a_spot_node_that_azure_took_is_gone_at_the_next_look_and_says_why(stage: Stage, cloud: AzureCloud) -> None:
    cloud.activity.seconds = 600.0  # the log is told of it later
    (outcome,) = stage.want(1)
    assert outcome.node
    stage.want(1)
    cloud.evict(outcome.node.instance_id)
    assert vms(cloud) == []
    (node,) = outcomes_of(stage, outcome.node.id)
    assert (node.state, node.code) == (NodeState.GONE, "spot_interruption")
    assert node.reason.startswith("spot interruption: ") and "evicted" in node.reason
    assert stage.provisioner.blocks(stage.now) == (), "a loss of spot is no refusal"
    assert DELETE not in cloud.world.operations(), "it has ended already"


def test_a_head_that_was_restarted_meanwhile_reads_it_in_the_activity_log(stage: Stage, cloud: AzureCloud) -> None:
    (outcome,) = stage.want(1)
    assert outcome.node
    stage.want(1)
    cloud.evict(outcome.node.instance_id)
    (name,) = stage.provisioner.providers
    stage.provisioner.use_providers({name: stage.open()})  # it remembers nothing
    (node,) = outcomes_of(stage, outcome.node.id)
    assert (node.state, node.code) == (NodeState.GONE, "spot_interruption")


def test_a_spot_node_that_is_about_to_go_works_on_as_long_as_azure_leaves_it(stage: Stage, cloud: AzureCloud) -> None:
    cloud.world.preempt_seconds = 3600.0
    (outcome,) = stage.want(1)
    assert outcome.node
    stage.want(1)
    cloud.evict(outcome.node.instance_id)
    (shown,) = stage.provider.list()[0].instances
    assert shown.state == "running"


def test_who_may_not_read_the_log_guesses(stage: Stage, cloud: AzureCloud) -> None:
    cloud.world.denied.add(ACTION)
    (made,) = create(stage, "cpu-1", market=["spot"])
    stage.provider.list()
    cloud.evict(made)
    (ended,) = stage.provider.list()[0].instances
    assert (ended.state, ended.reclaimed, ended.detail) == ("terminated", True, ends.GUESSED)


def test_who_deleted_a_node_by_hand_is_told(stage: Stage, cloud: AzureCloud) -> None:
    (made,) = create(stage, "cpu-1")
    stage.provider.list()
    remove(cloud, stage, made)
    (ended,) = stage.provider.list()[0].instances
    assert (ended.state, ended.detail, ended.reclaimed) == ("terminated", "admin deleted it", False)


def test_the_log_is_read_rarely(stage: Stage, cloud: AzureCloud) -> None:
    cloud.activity.seconds = 3600.0
    ids = create(stage, *(f"cpu-{n}" for n in range(6)))
    stage.provider.list()
    for name in ids:
        remove(cloud, stage, name)
        stage.provider.list()
    assert cloud.world.operations().count(OPERATION) == 1


def test_a_launch_is_accepted_while_its_machines_still_boot(stage: Stage, cloud: AzureCloud, monkeypatch: Any) -> None:
    monkeypatch.setattr("clusterctl_providers.azure.machines.settle.REFUSALS", 0.5)
    cloud.world.boot_seconds = 3600.0
    requests = [stage.request(f"cpu-{n}") for n in range(1, 4)]
    answers = [*stage.provider.create(requests), *stage.provider.create([stage.request("cpu-9")])]
    assert [getattr(answer, "state", answer) for answer in answers] == ["pending"] * 4
    assert {i.node_id for i in stage.provider.list()[0].instances} == {"cpu-1", "cpu-2", "cpu-3", "cpu-9"}


def test_a_launch_that_fails_after_it_was_believed_is_a_refusal_with_azures_reason_and_is_removed(
    stage: Stage, cloud: AzureCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clusterctl_providers.azure.machines.settle.REFUSALS", 0.3)
    cloud.world.token_seconds = 86_400.0
    stage.provisioner.offers()
    cloud.world.boot_seconds = 3600.0
    cloud.fault(PUT, "operation", code="AllocationFailed", message="no room after all")
    (outcome,) = stage.want(1)
    assert outcome.node and outcome.node.state is NodeState.REQUESTED
    clock = cloud.world.clock
    cloud.world.clock = lambda: clock() + 7200.0
    (shown,) = stage.provider.list()[0].instances
    assert (shown.state, shown.refused) == ("stopped", "no_capacity") and "no room after all" in shown.detail
    (node,) = [o.node for o in stage.want(0) if o.node]
    assert node.state is NodeState.FAILED and node.code == "no_capacity" and "AllocationFailed" in node.reason
    wait_until(lambda: not stage.want(0) and not vms(cloud), what="it is deleted")
    assert not [path for path in cloud.leftovers() if "/disks/" in path or "/networkInterfaces/" in path]


def test_a_machine_that_turned_itself_off_is_ended_since_it_costs_what_it_did(stage: Stage, cloud: AzureCloud) -> None:
    (outcome,) = stage.want(1)
    assert outcome.node
    stage.want(1)
    cloud.shut_down(outcome.node.instance_id)
    (node,) = outcomes_of(stage, outcome.node.id)
    assert node.state is NodeState.FAILED and "it turned itself off" in node.reason and "costs" in node.reason
    wait_until(lambda: not stage.want(0) and not vms(cloud), what="it is deleted")
    assert not [path for path in cloud.leftovers() if "/disks/" in path]


def test_the_graph_is_a_hint_and_the_machine_is_asked_itself(stage: Stage, cloud: AzureCloud) -> None:
    """A machine that was started again is called stopped by a graph that lags: it is not ended for that."""
    (made,) = create(stage, "cpu-1")
    machine = machines_of(cloud)
    group = stage.provider._network.group.name
    machine.begin_deallocate(group, made).result()
    assert [i.state for i in stage.provider.list()[0].instances] == ["stopped"]
    clock = cloud.world.clock
    cloud.world.clock = lambda: clock() + 60.0
    machine.begin_start(group, made).result()
    cloud.world.graph_delay = 30.0
    assert [i.state for i in stage.open().list()[0].instances] == ["running"]


def test_a_graph_that_may_not_be_asked_hides_no_machine_that_is_off(stage: Stage, cloud: AzureCloud) -> None:
    cloud.world.denied.add("Microsoft.ResourceGraph/resources/read")
    (made, other) = create(stage, "cpu-1", "cpu-2")
    cloud.shut_down(made)
    clock = stage.provider._rows._clock
    stage.provider._rows._clock = lambda: clock() + 300.0
    assert {i.id: i.state for i in stage.provider.list()[0].instances} == {made: "stopped", other: "running"}


def test_what_we_ended_ourselves_is_not_asked_for_again(stage: Stage, cloud: AzureCloud) -> None:
    ids = create(stage, "cpu-1", "cpu-2")
    stage.provider.list()
    stage.provider.terminate(ids)
    wait_until(lambda: not stage.provider.list()[0].instances, what="an empty list")
    before = len(cloud.world.calls)
    stage.provider.list()
    assert set(cloud.world.operations(before)) == {"virtualMachines.list"}


def test_a_machine_that_is_being_deleted_is_stopping(stage: Stage, cloud: AzureCloud) -> None:
    (made,) = create(stage, "cpu-1")
    cloud.world.end_seconds = 3600.0
    stage.provider.terminate([made])
    (shown,) = stage.provider.list()[0].instances
    assert (shown.state, shown.reclaimed) == ("stopping", False)
    assert stage.provider.look_up([made])[made].state == "stopping"


def test_machines_that_never_come_up_are_not_launched_again_and_again(stage: Stage, cloud: AzureCloud) -> None:
    """A broken key breaks every offer: no storm of launches."""
    text = "The disk encryption set cannot be used: the key vault refuses it"
    cloud.fault(PUT, "operation", code="KeyVaultAccessForbidden", message=text, times=None)
    for _ in range(30):
        stage.want(1)
        stage.now += 10
    assert cloud.world.operations().count(PUT) <= 8, "in five minutes"
    assert stage.planned(1).waits, "and the job says why it waits"
    cloud.world.faults.clear()


def test_a_look_that_is_not_allowed_is_told_with_what_is_lacking(stage: Stage, cloud: AzureCloud) -> None:
    create(stage, "cpu-1")
    cloud.world.denied.add("Microsoft.Compute/virtualMachines/read")
    (scope,) = stage.provider.list()
    assert (
        not scope.complete and scope.code == AuthFailed.code and "Microsoft.Compute/virtualMachines/read" in scope.error
    )


def test_a_locked_machine_keeps_no_other_one_alive_and_is_named(stage: Stage, cloud: AzureCloud) -> None:
    ids = create(stage, "cpu-1", "cpu-2", "cpu-3")
    text = "cannot perform delete operation because following scope(s) are locked: '/subscriptions/s'. Please remove the lock"
    fault = cloud.fault(DELETE, code="ScopeLocked", status=409, message=text, match=f"{ids[1]}?", times=None)
    with pytest.raises(BadRequest, match=f"{ids[1]}.*az lock"):
        stage.provider.terminate(ids)
    assert names(cloud) == [ids[1]]
    cloud.world.faults.remove(fault)
    stage.provider.terminate(ids)
    assert names(cloud) == []
    assert cast(int, cloud.world.operations().count(VIEW)) <= 3
