"""The policies at work: IAM asks them for each call, resource and tag, and they are enough, for one's own cluster only."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusterctl_providers.aws.policies import render_policy
from clusterctl_providers.base import HeadMachine

from clusterctl.core.errors import AuthFailed, BadRequest
from clusterctl.core.model import Instance
from tests.aws.stage import BOTH, Stage, pool
from tests.aws.test_permissions import FACTS, key_of, live
from tests.cloud.aws.cloud import AwsCloud


@pytest.fixture
def stage(cloud: AwsCloud, tmp_path: Path) -> Iterator[Stage]:
    place = Stage(tmp_path, cloud, [pool(market=BOTH), pool("gang", instances=["g6.8xlarge"], one_zone=True)])
    yield place
    place.close()


def become(stage: Stage, monkeypatch: pytest.MonkeyPatch, name: str, uid: str) -> None:
    """From now on all calls are those of a user with that policy."""
    policy = render_policy(name, uid=uid, **FACTS)
    for variable, value in stage.cloud.add_user(name, policy).items():
        monkeypatch.setenv(variable, value)


def test_the_clients_policy_is_enough_for_a_clusters_life(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(stage, monkeypatch, "client", stage.uid)
    provider = stage.open(key_of(tmp_path), ssh_from=["192.0.2.7"], worker_profile="auto")
    provider.identity.head_profile()
    live(stage, provider)
    assert provider.sweep() == [] and stage.cloud.leftovers() == []


def test_the_heads_policy_is_enough_for_a_head(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = stage.open(key_of(tmp_path), worker_profile="auto")
    client.create([stage.request("cpu-9")])
    client.identity.worker_profile()
    become(stage, monkeypatch, "head", stage.uid)
    head = stage.open(key_of(tmp_path), worker_profile="auto")
    head.terminate([instance.id for instance in head.list()[0].instances])
    live(stage, head)


def test_without_the_right_to_it_an_accounts_first_spot_launch_says_what_to_do_and_on_demand_goes_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = render_policy("client", uid=stage.uid, **FACTS)
    policy["Statement"] = [s for s in policy["Statement"] if s["Action"] != "iam:CreateServiceLinkedRole"]
    for variable, value in stage.cloud.add_user("plain", policy).items():
        monkeypatch.setenv(variable, value)
    spot, demand = (next(o for o in stage.provider.offers(stage.pools[0]) if o.market == market) for market in BOTH)
    first, second = stage.open().create([stage.request("cpu-1", spot), stage.request("cpu-2", demand)])
    assert isinstance(first, BadRequest) and "--aws-service-name spot.amazonaws.com" in str(first)
    assert isinstance(second, Instance), second


@pytest.mark.parametrize("name", ["client", "head"])
def test_with_the_policy_of_another_cluster_nothing_of_this_one_can_be_ended(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (made,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(made, Instance)
    become(stage, monkeypatch, name, str(uuid.uuid4()))
    other = stage.open()
    with pytest.raises(AuthFailed, match="ec2:TerminateInstances"):
        other.terminate([made.id])
    (answer,) = other.create([stage.request("cpu-2")])
    assert isinstance(answer, AuthFailed) and "ec2:RunInstances" in str(answer)
    assert [i.id for i in stage.cloud.instances("pending", "running")] == [made.id]


def test_roles_are_made_within_the_boundary_that_the_account_wants(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    boundary = f"arn:aws:iam::{FACTS['account']}:policy/boundary"
    policy = render_policy("client", uid=stage.uid, boundary=boundary, **FACTS)
    for variable, value in stage.cloud.add_user("bounded", policy).items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(AuthFailed, match="iam:CreateRole"):
        stage.open().identity.head_profile()
    bounded = stage.open(permissions_boundary=boundary)
    name = bounded.identity.head_profile()
    role = stage.cloud.client("iam").get_role(RoleName=name)["Role"]
    assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] == boundary
    assert bounded.sweep() == [] and stage.cloud.leftovers() == []


def test_a_head_may_read_the_parameters_that_name_its_images_and_no_others(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.cloud.world.parameters |= {
        "/team/image": "ami-0ubuntu2404amd0001",
        "/team/password": "ami-0ubuntu2404amd0001",
    }
    name = stage.open(
        head_machine=HeadMachine(public=True, images=["ssm:/team/image", "ami-1"])
    ).identity.head_profile()
    text = stage.cloud.client("iam").get_role_policy(RoleName=name, PolicyName="clusterctl-head")["PolicyDocument"]
    stage.provider.renew_access()
    for variable, value in stage.cloud.add_user("head", text).items():
        monkeypatch.setenv(variable, value)
    mine, other = (pool(image=f"ssm:/team/{word}") for word in ("image", "password"))
    (made,) = stage.open().create([stage.request("cpu-1", wanted=mine)])
    assert isinstance(made, Instance), made
    (answer,) = stage.open().create([stage.request("cpu-2", wanted=other)])
    assert isinstance(answer, AuthFailed) and "ssm:GetParameter" in str(answer)


def test_a_running_heads_role_and_the_workers_follow_the_spec(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head may neither make the workers' role nor widen its own: what the spec asks for since is made by `up`."""
    stage.open().identity.head_profile()
    stage.open(worker_profile="auto", ssh_from=[]).renew_access()
    become(stage, monkeypatch, "head", stage.uid)
    (made,) = stage.open(worker_profile="auto").create([stage.request("cpu-1")])
    assert isinstance(made, Instance), made
