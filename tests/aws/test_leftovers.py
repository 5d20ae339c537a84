"""What a cluster without instances still has goes away with `down`, and with `gc`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from clusterctl_providers.base import HasLeftovers
from clusterctl_providers.fake.provider import FakeProvider

from clusterctl.core.errors import ClusterctlError, ProviderError
from clusterctl.provision.gc import collect
from tests.aws.stage import Stage as AwsStage
from tests.cloud.aws.cloud import AwsCloud
from tests.provision.stage import Stage, launch


class Untidy(FakeProvider):
    """A fake cloud that keeps a firewall for each cluster: it goes at the third asking."""

    asked = 0

    def sweep(self) -> list[str]:
        self.asked += 1
        assert not [i for scope in self.list() for i in scope.instances if i.state in ("pending", "running")]
        if self.asked == 1:
            raise ProviderError("the firewall cannot be reached")
        return ["the firewall is still in use"] if self.asked == 2 else []


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    place = Stage(tmp_path)
    place.cloud.__class__ = Untidy
    yield place
    place.journal.close()


def test_leftovers_go_after_the_last_instance_and_are_asked_for_until_they_do(stage: Stage) -> None:
    assert isinstance(stage.cloud, Untidy) and isinstance(stage.cloud, HasLeftovers)
    stage.apply(launch("cpu-1"), launch("cpu-2"))
    told: list[str] = []
    stage.provisioner.down(told.append)
    assert stage.cloud.asked == 3
    assert [text for text in told if "firewall" in text] == [
        "no instance is left; the firewall cannot be reached",
        "no instance is left; the firewall is still in use",
    ]


def test_leftovers_that_never_go_are_named(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Untidy, "sweep", lambda self: ["the firewall is still in use"])
    stage.apply(launch("cpu-1"))
    with pytest.raises(ClusterctlError, match="the firewall is still in use"):
        stage.provisioner.down(patience=20)


@pytest.fixture
def aws(cloud: AwsCloud, tmp_path: Path) -> Iterator[AwsStage]:
    place = AwsStage(tmp_path, cloud)
    yield place
    place.close()


def test_down_waits_for_the_last_instance_before_it_removes_the_security_group(aws: AwsStage, cloud: AwsCloud) -> None:
    cloud.world.end_seconds = 0.5
    aws.want(3)
    assert len(cloud.leftovers()) > 3
    aws.provisioner.down()
    assert cloud.leftovers() == []


def test_gc_finds_a_cluster_of_which_only_a_security_group_is_left(aws: AwsStage, cloud: AwsCloud) -> None:
    aws.want(1)
    ids = [instance.id for instance in cloud.instances()]
    cloud.client().terminate_instances(InstanceIds=ids)
    assert [(name, uid) for name, uid, _ in aws.provider.find_clusters()] == [("demo", aws.uid)]
    collect({("aws", ""): lambda cluster, uid: aws.open()}, lambda uid: False, aws.now, dry_run=False, patience=10)
    assert cloud.leftovers() == []


def test_what_another_cluster_has_stays(aws: AwsStage, cloud: AwsCloud, tmp_path: Path) -> None:
    other = AwsStage(tmp_path / "other", cloud) if (tmp_path / "other").mkdir() is None else aws
    other.want(1)
    kept = set(cloud.leftovers())
    aws.want(1)
    aws.provisioner.down()
    assert set(cloud.leftovers()) == kept
    other.close()


def test_gc_leaves_a_cluster_whose_head_lost_its_machine_and_kept_its_queue(aws: AwsStage, cloud: AwsCloud) -> None:
    """To whoever does not know the cluster it looks as if nobody did: its owner's `up` brings it back."""
    aws.want(1)
    disk = aws.provider.make_head_disk("us-east-1a", 1 << 30, "once")
    before = cloud.leftovers()

    def find() -> list[str]:
        strays = collect(
            {("aws", ""): lambda cluster, uid: aws.open()}, lambda uid: False, aws.now, dry_run=False, patience=10
        )
        return [stray.error or stray.spared for stray in strays]

    (said,) = find()
    assert disk.id in said and "`clusterctl up` where it was started" in said
    assert cloud.leftovers() == before
    cloud.client().delete_volume(VolumeId=disk.id)
    assert find() == [""] and cloud.leftovers() == []


def test_gc_finds_a_cluster_of_which_only_a_volume_or_a_placement_group_is_left(aws: AwsStage, cloud: AwsCloud) -> None:
    tags = [{"Key": "clusterctl-uid", "Value": aws.uid}, {"Key": "clusterctl-cluster", "Value": "demo"}]
    ec2 = cloud.client()
    for make in (
        lambda: ec2.create_volume(
            AvailabilityZone="us-east-1a", Size=1, TagSpecifications=[{"ResourceType": "volume", "Tags": tags}]
        ),
        lambda: ec2.create_placement_group(
            GroupName="g", Strategy="cluster", TagSpecifications=[{"ResourceType": "placement-group", "Tags": tags}]
        ),
    ):
        make()
        assert [(name, uid) for name, uid, _ in aws.provider.find_clusters()] == [("demo", aws.uid)]
        collect({("aws", ""): lambda cluster, uid: aws.open()}, lambda uid: False, aws.now, dry_run=False, patience=10)
        assert cloud.leftovers() == []


def test_down_says_for_which_instances_it_waits_while_they_take_their_time(aws: AwsStage, cloud: AwsCloud) -> None:
    cloud.world.clock = lambda: aws.now
    aws.want(2)
    cloud.world.end_seconds = 50.0
    told: list[str] = []
    aws.provisioner.down(told.append)
    waits = [line for line in told if line.startswith("waiting for aws to end cpu-1 (i-")]
    assert len(waits) == 3 and all(", stopping) (" in line for line in waits), told
    assert cloud.leftovers() == []
