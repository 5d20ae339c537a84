"""Instances that end, and those that cannot be ended: what the cluster learns of it, and what it does then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from clusterctl_providers.cloud import listing

from clusterctl.core.errors import BadRequest, UnknownOutcome
from clusterctl.core.model import Instance, NodeState
from tests.aws.stage import Stage
from tests.cloud.aws.cloud import AwsCloud


@pytest.fixture
def stage(cloud: AwsCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setattr(listing, "SEEN_BY", 0.0)
    place = Stage(tmp_path, cloud)
    yield place
    place.close()


def create(stage: Stage, *names: str) -> list[str]:
    made = [stage.provider.create([stage.request(name)])[0] for name in names]
    return [instance.id for instance in made if isinstance(instance, Instance)]


@pytest.mark.parametrize(
    ("reason", "code", "says"),
    [
        ("Server.InsufficientInstanceCapacity", "no_capacity", "Insufficient capacity to launch"),
        ("Client.InternalError", "bad_request", "Client error on launch; most often the KMS key"),
        (
            "Client.InvalidKMSKey.InvalidKeyId",
            "bad_request",
            "The KMS key provided is incorrect; most often the KMS key",
        ),
        ("Client.VolumeLimitExceeded", "quota_exceeded", "Volume limit exceeded"),
    ],
)
def test_a_launch_that_ends_before_it_runs_is_a_refusal_with_awss_reason_and_blocks_its_offer(
    stage: Stage, cloud: AwsCloud, reason: str, code: str, says: str
) -> None:
    cloud.world.stillborn = reason
    (outcome,) = stage.want(1)
    assert outcome.ok and outcome.node, "EC2 accepts the launch"
    ended = [o for o in stage.want(0) if o.node and o.node.id == outcome.node.id]
    assert [o.node.code for o in ended if o.node] == [code]
    assert reason in ended[0].node.reason and says in ended[0].node.reason  # type: ignore[union-attr]
    (block,) = stage.provisioner.blocks(stage.now)
    assert block.code == code and outcome.node.offer.key.startswith(block.offer_key) and says in block.reason
    assert (
        stage.provisioner.failures(stage.now) == () if code != "bad_request" else stage.provisioner.failures(stage.now)
    )
    cloud.world.stillborn = ""
    (again,) = [o for o in stage.want(1) if o.action and o.action.op == "launch"]
    assert again.ok and again.node and again.node.offer.key != outcome.node.offer.key
    while any(n.id == outcome.node.id for n in stage.journal.nodes().values()):
        stage.want(1)


def test_machines_that_never_come_up_are_not_launched_again_and_again(stage: Stage, cloud: AwsCloud) -> None:
    """A key that nobody may use breaks every offer: no storm of launches."""
    cloud.world.stillborn = "Client.InternalError"
    for _ in range(60):
        stage.want(1)
        stage.now += 5
    assert cloud.world.actions().count("ec2:RunInstances") <= 8, "in five minutes"
    assert stage.planned(1).waits, "and the job says why it waits"


@pytest.mark.parametrize(("reason", "says"), [("Server.SpotInstanceTermination", "Spot instance termination")])
def test_a_node_that_aws_took_is_gone_at_the_next_look_and_says_why(
    stage: Stage, cloud: AwsCloud, reason: str, says: str
) -> None:
    (outcome,) = stage.want(1)
    assert outcome.node
    stage.want(1)
    cloud.interrupt(outcome.node.instance_id)
    gone = [o.node for o in stage.want(0) if o.node and o.node.id == outcome.node.id]  # type: ignore[union-attr]
    assert [node.state for node in gone] == [NodeState.GONE]
    assert gone[0].code == "spot_interruption" and says in gone[0].reason
    assert gone[0].reason.startswith("spot interruption: ")
    assert stage.provisioner.blocks(stage.now) == (), "a loss of spot is no refusal"
    assert "ec2:TerminateInstances" not in cloud.world.actions(), "it has ended already"


def test_a_node_that_aws_took_while_nobody_looked_says_why_as_well(stage: Stage, cloud: AwsCloud) -> None:
    (outcome,) = stage.want(1)
    assert outcome.node
    stage.want(1)
    cloud.interrupt(outcome.node.instance_id)
    (name,) = stage.provisioner.providers
    stage.provisioner.use_providers({name: stage.open()})  # as after a restart: it remembers nothing
    gone = [o.node for o in stage.want(0) if o.node and o.node.id == outcome.node.id]  # type: ignore[union-attr]
    assert [(node.state, node.code) for node in gone] == [(NodeState.GONE, "spot_interruption")]


def test_what_we_ended_ourselves_is_not_asked_for_again(stage: Stage, cloud: AwsCloud) -> None:
    ids = create(stage, "cpu-1", "cpu-2")
    cloud.world.end_seconds = 0.2
    stage.provider.list()
    stage.provider.terminate(ids)
    while stage.provider.list()[0].instances:
        pass
    before = len(cloud.world.calls)
    stage.provider.list()
    assert cloud.world.actions(before) == ["ec2:DescribeInstances"]


def test_an_instance_that_ec2_does_not_know_yet_is_not_taken_for_ended(stage: Stage, cloud: AwsCloud) -> None:
    first, second = create(stage, "cpu-1", "cpu-2")
    text = f"The instance ID '{first}' does not exist"
    cloud.fault("TerminateInstances", code="InvalidInstanceID.NotFound", message=text, status=400)
    with pytest.raises(UnknownOutcome, match=first):
        stage.provider.terminate([first, second])
    assert [i.id for i in cloud.instances("pending", "running")] == [first], "the other one has ended"
    stage.provider.terminate([first])
    assert cloud.instances("pending", "running") == []


def test_a_protected_instance_keeps_no_other_one_alive_and_is_named(stage: Stage, cloud: AwsCloud) -> None:
    ids = create(stage, "cpu-1", "cpu-2", "cpu-3")
    text = f"The instance '{ids[1]}' may not be terminated. Modify its 'disableApiTermination' instance attribute"
    cloud.fault("TerminateInstances", code="OperationNotPermitted", message=text, status=400)
    with pytest.raises(BadRequest, match=f"{ids[1]}.*disableApiTermination"):
        stage.provider.terminate(ids)
    assert [i.id for i in cloud.instances("pending", "running")] == [ids[1]]
