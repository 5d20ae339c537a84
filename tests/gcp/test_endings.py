"""Instances that end, and those that cannot be ended: what the cluster learns of it, and what it does then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from clusterctl_providers.cloud import listing

from clusterctl.core.errors import BadRequest
from clusterctl.core.model import Instance, NodeState
from tests.cloud.gcp.cloud import GcpCloud
from tests.cloud.gcp.world import PROJECT
from tests.gcp.stage import Stage, pool
from tests.support.cluster import wait_until

ONE = "compute.instances.insert"


@pytest.fixture
def stage(cloud: GcpCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setattr(listing, "SEEN_BY", 0.0)
    place = Stage(tmp_path, cloud)
    yield place
    place.close()


def create(stage: Stage, *names: str, **spec: Any) -> list[str]:
    made = [stage.provider.create([stage.request(name, wanted=pool(**spec))])[0] for name in names]
    return [instance.id for instance in made if isinstance(instance, Instance)]


def outcomes_of(stage: Stage, node_id: str) -> list[Any]:
    return [o.node for o in stage.want(0) if o.node and o.node.id == node_id]


def test_a_spot_node_that_google_took_is_gone_at_the_next_look_and_says_why(stage: Stage, cloud: GcpCloud) -> None:
    (outcome,) = stage.want(1)
    assert outcome.node
    stage.want(1)
    cloud.preempt(outcome.node.instance_id)
    wait_until(lambda: not cloud.instances(), what="it is gone")
    (node,) = outcomes_of(stage, outcome.node.id)
    assert (node.state, node.code) == (NodeState.GONE, "spot_interruption")
    assert node.reason.startswith("spot interruption: ") and "preempted" in node.reason
    assert stage.provisioner.blocks(stage.now) == (), "a loss of spot is no refusal"
    assert "compute.instances.delete" not in cloud.world.actions(), "it has ended already"


def test_a_spot_node_that_is_about_to_go_works_on_as_long_as_google_leaves_it(stage: Stage, cloud: GcpCloud) -> None:
    """Google shows it as stopping from the first moment; its agent hears of it, and drains."""
    cloud.world.preempt_seconds = 3600.0
    (outcome,) = stage.want(1)
    assert outcome.node
    stage.want(1)
    cloud.preempt(outcome.node.instance_id)
    assert [i.status for i in cloud.instances()] == ["STOPPING"]
    ((shown,),) = [observed.instances for observed in stage.provider.list()]
    assert shown.state == "running" and "preempted" in shown.detail
    assert outcomes_of(stage, outcome.node.id) == [] and "compute.instances.delete" not in cloud.world.actions()


def test_a_node_that_google_took_while_nobody_looked_says_why_as_well(stage: Stage, cloud: GcpCloud) -> None:
    (outcome,) = stage.want(1)
    assert outcome.node
    stage.want(1)
    cloud.preempt(outcome.node.instance_id)
    wait_until(lambda: not cloud.instances(), what="it is gone")
    (name,) = stage.provisioner.providers
    stage.provisioner.use_providers({name: stage.open()})  # as after a restart: it remembers nothing
    (node,) = outcomes_of(stage, outcome.node.id)
    assert (node.state, node.code) == (NodeState.GONE, "spot_interruption")


def test_a_launch_that_vanishes_after_it_was_seen_is_a_refusal_with_googles_reason(
    stage: Stage, cloud: GcpCloud
) -> None:
    """The process dies while it waits for the operation; the instance shows PROVISIONING, and is gone a moment later."""
    create(stage, "cpu-0")  # so that what is around it is there
    stage.provider.terminate([cloud.instances()[0].handle])
    cloud.world.operation_seconds = 3600.0
    request = stage.request("cpu-1")
    cloud.world.capacity["*/*/spot"] = 0
    cloud.fault("compute.zoneOperations.get", "cut", times=8)
    (answer,) = stage.provider.create([request])
    assert answer.code == "unknown_outcome"  # type: ignore[union-attr]
    later = stage.open()
    (seen,) = later.list()[0].instances
    assert (seen.node_id, seen.state) == ("cpu-1", "pending")
    clock = cloud.world.clock
    cloud.world.clock = lambda: clock() + 7200.0
    assert [i.state for i in later.list()[0].instances] == ["terminated"]
    (ended,) = later.look_up([seen.id]).values()
    assert (ended.state, ended.refused) == ("terminated", "no_capacity")
    assert "ZONE_RESOURCE_POOL_EXHAUSTED" in ended.detail
    cloud.world.faults.clear()
    (answer,) = stage.open().create([request])
    assert answer.code == "no_capacity", "the same number leads to the operation that has failed"  # type: ignore[union-attr]


def test_a_launch_is_accepted_as_soon_as_its_machines_are_listed(stage: Stage, cloud: GcpCloud) -> None:
    """Google's operation takes as long as the machine needs to boot: the next launch, and `down`, do not wait for it."""
    cloud.world.boot_seconds = 3600.0
    requests = [stage.request(f"cpu-{n}") for n in range(1, 4)]
    answers = [*stage.provider.create(requests), *stage.provider.create([stage.request("cpu-9")])]
    assert [getattr(answer, "state", answer) for answer in answers] == ["pending"] * 4
    assert {i.node_id for i in stage.provider.list()[0].instances} == {"cpu-1", "cpu-2", "cpu-3", "cpu-9"}


def test_a_launch_that_fails_after_it_was_believed_is_a_refusal_with_googles_reason(
    stage: Stage, cloud: GcpCloud
) -> None:
    create(stage, "cpu-0")  # so that what is around it is there
    cloud.world.operation_seconds = 3600.0
    cloud.world.capacity["*/*/spot"] = 0
    (answer,) = stage.provider.create([stage.request("cpu-1")])
    assert getattr(answer, "state", answer) == "pending"
    clock = cloud.world.clock
    cloud.world.clock = lambda: clock() + 7200.0
    (ended,) = stage.provider.look_up([cast(Instance, answer).id]).values()
    assert (ended.state, ended.refused) == ("terminated", "no_capacity")
    assert "ZONE_RESOURCE_POOL_EXHAUSTED" in ended.detail


def test_a_machine_that_turned_itself_off_is_ended_and_its_disk_with_it(stage: Stage, cloud: GcpCloud) -> None:
    (outcome,) = stage.want(1)
    assert outcome.node
    stage.want(1)
    cloud.shut_down(outcome.node.instance_id)
    wait_until(lambda: not cloud.instances("RUNNING", "STOPPING"), what="it is off")
    (node,) = outcomes_of(stage, outcome.node.id)
    assert node.state is NodeState.FAILED and "it turned itself off" in node.reason
    wait_until(lambda: not stage.want(0) and not cloud.instances(), what="it is deleted")
    assert not [path for path in cloud.leftovers() if "/disks/" in path]


def test_a_node_whose_host_failed_says_so(stage: Stage, cloud: GcpCloud) -> None:
    (outcome,) = stage.want(1)
    assert outcome.node
    stage.want(1)
    cloud.host_error(outcome.node.instance_id)
    wait_until(lambda: not cloud.instances("RUNNING", "STOPPING"), what="it is off")
    (node,) = outcomes_of(stage, outcome.node.id)
    assert node.state is NodeState.FAILED and "its host failed" in node.reason


def test_who_deleted_a_node_by_hand_is_told(stage: Stage, cloud: GcpCloud) -> None:
    (made,) = create(stage, "cpu-1")
    zone, _, name = made.partition("/")
    stage.provider.list()
    cloud.client().instances().delete(project=PROJECT, zone=zone, instance=name).execute()
    (ended,) = stage.provider.list()[0].instances
    assert ended.state == "terminated" and "admin@" in ended.detail and "deleted it" in ended.detail


def test_what_we_ended_ourselves_is_not_asked_for_again(stage: Stage, cloud: GcpCloud) -> None:
    ids = create(stage, "cpu-1", "cpu-2")
    stage.provider.list()
    stage.provider.terminate(ids)
    wait_until(lambda: not stage.provider.list()[0].instances, what="an empty list")
    before = len(cloud.world.calls)
    stage.provider.list()
    assert set(cloud.world.actions(before)) == {"compute.instances.list"}


def test_machines_that_never_come_up_are_not_launched_again_and_again(stage: Stage, cloud: GcpCloud) -> None:
    """A broken key breaks every offer: no storm of launches."""
    text = "Cloud KMS key cannot be used: permission cloudkms.cryptoKeyVersions.useToEncrypt"
    cloud.fault(ONE, "operation", code="INVALID_USAGE", message=text, status=400, times=None)
    for _ in range(60):
        stage.want(1)
        stage.now += 5
    assert cloud.world.actions().count(ONE) <= 8, "in five minutes"
    assert stage.planned(1).waits, "and the job says why it waits"
    cloud.world.faults.clear()


def test_a_protected_instance_keeps_no_other_one_alive_and_is_named(stage: Stage, cloud: GcpCloud) -> None:
    ids = create(stage, "cpu-1", "cpu-2", "cpu-3")
    cloud.instance(ids[1]).body["deletionProtection"] = True
    with pytest.raises(BadRequest, match=f"{ids[1]}.*protected against deletion"):
        stage.provider.terminate(ids)
    assert [i.handle for i in cloud.instances()] == [ids[1]]
    cloud.instance(ids[1]).body["deletionProtection"] = False
