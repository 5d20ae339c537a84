"""The roles of a cluster's machines: made when they are needed, bound to the cluster, and gone with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.aws.identity import Identity
from clusterctl_providers.aws.policies import actions_of, render_policy
from clusterctl_providers.base import TAG_UID, PoolRequest

from clusterctl.core.errors import AuthFailed, BadRequest
from clusterctl.core.model import Instance
from tests.aws.stage import Stage, pool
from tests.cloud.aws.cloud import AwsCloud

STEPS = [
    "GetInstanceProfile", "GetRole", "CreateRole", "PutRolePolicy", "CreateInstanceProfile", "AddRoleToInstanceProfile",
]  # fmt: skip
UNSEEN = "Value (x) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"


@pytest.fixture
def stage(cloud: AwsCloud, tmp_path: Path) -> Iterator[Stage]:
    place = Stage(tmp_path, cloud)
    yield place
    place.close()


def identity(stage: Stage, **settings: Any) -> Identity:
    return stage.open(**settings).identity


def roles(cloud: AwsCloud) -> list[str]:
    return [role["RoleName"] for role in cloud.client("iam").list_roles()["Roles"]]


def profiles(cloud: AwsCloud) -> list[str]:
    return [found["InstanceProfileName"] for found in cloud.client("iam").list_instance_profiles()["InstanceProfiles"]]


def policy_of(cloud: AwsCloud, name: str, kind: str = "head") -> dict[str, Any]:
    found = cloud.client("iam").get_role_policy(RoleName=name, PolicyName=f"clusterctl-{kind}")["PolicyDocument"]
    return found if isinstance(found, dict) else json.loads(found)


def test_a_head_gets_a_role_of_its_own_that_carries_our_tags_and_is_bound_to_the_uid(
    stage: Stage, cloud: AwsCloud
) -> None:
    name = identity(stage, tags={"team": "vision"}).head_profile()
    assert name == f"clusterctl-demo-{stage.uid[:8]}-head"
    made = cloud.client("iam").get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
    (role,) = made["Roles"]
    assert role["RoleName"] == name and role["Path"] == made["Path"] == f"/clusterctl/us-east-1/{stage.uid}/"
    assert role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] == {"Service": "ec2.amazonaws.com"}
    tags = {tag["Key"]: tag["Value"] for tag in cloud.client("iam").get_role(RoleName=name)["Role"]["Tags"]}
    assert tags == {"team": "vision", TAG_UID: stage.uid, "clusterctl-cluster": "demo"}
    policy = policy_of(cloud, name)
    assert "ec2:RunInstances" in actions_of(policy) and "iam:CreateRole" not in actions_of(policy)
    assert stage.uid in json.dumps(policy) and "${" not in json.dumps(policy)
    assert len(json.dumps(policy, separators=(",", ":"))) < 10_240, "what IAM allows for a role's own policies"


def test_a_longest_cluster_name_still_makes_a_role_name(stage: Stage) -> None:
    long = Identity(stage.provider._calls, stage.settings, "c" * 40, stage.uid)
    assert len(long.name_of("worker")) <= 64


@pytest.mark.parametrize("step", STEPS)
def test_a_role_half_made_is_finished_by_the_next_try(stage: Stage, cloud: AwsCloud, step: str) -> None:
    cloud.world.denied = {f"iam:{step}"}
    with pytest.raises(AuthFailed, match=f"iam:{step}"):
        identity(stage).head_profile()
    cloud.world.denied = set()
    cloud.fault(step, "lost")  # and the answer of the next try gets lost after its effect
    name = identity(stage).head_profile()
    assert profiles(cloud) == roles(cloud) == [name]
    (made,) = cloud.client("iam").list_instance_profiles()["InstanceProfiles"]
    assert [role["RoleName"] for role in made["Roles"]] == [name]


def test_a_role_that_iam_does_not_show_yet_is_waited_for(stage: Stage, cloud: AwsCloud) -> None:
    gone: dict[str, Any] = {"code": "NoSuchEntity", "message": "The role cannot be found.", "status": 404}
    cloud.fault("PutRolePolicy", **gone)
    cloud.fault("AddRoleToInstanceProfile", **gone)
    assert identity(stage).head_profile() == roles(cloud)[0]


def test_a_role_of_that_name_without_our_uid_is_not_used(stage: Stage, cloud: AwsCloud) -> None:
    ours = identity(stage)
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    cloud.client("iam").create_role(RoleName=ours.name_of("head"), AssumeRolePolicyDocument=trust)
    with pytest.raises(BadRequest, match="does not carry the uid"):
        ours.head_profile()
    ours.sweep()
    assert roles(cloud) == [ours.name_of("head")], "and is not removed"


def test_a_profile_of_the_users_is_taken_and_nothing_is_made(stage: Stage, cloud: AwsCloud) -> None:
    ours = identity(stage, instance_profile="mine", worker_profile="theirs")
    assert (ours.head_profile(), ours.worker_profile()) == ("mine", "theirs")
    assert identity(stage).worker_profile() == ""
    assert not [action for action in cloud.world.actions() if action.startswith("iam:")]


def test_the_head_may_pass_on_only_the_role_of_the_users_worker_profile(stage: Stage, cloud: AwsCloud) -> None:
    iam = cloud.client("iam")
    iam.create_role(RoleName="reader", Path="/team/", AssumeRolePolicyDocument="{}")
    iam.create_instance_profile(InstanceProfileName="reading")
    iam.add_role_to_instance_profile(InstanceProfileName="reading", RoleName="reader")
    name = identity(stage, worker_profile="reading").head_profile()
    (passing,) = [s for s in policy_of(cloud, name)["Statement"] if s["Action"] == "iam:PassRole"]
    assert passing["Resource"] == ["arn:aws:iam::123456789012:role/team/reader"]


def test_workers_get_a_role_on_request_and_a_head_may_use_it_without_making_one(stage: Stage, cloud: AwsCloud) -> None:
    name = identity(stage, worker_profile="auto").worker_profile()
    assert {s["Effect"] for s in policy_of(cloud, name, "worker")["Statement"]} == {"Deny"}
    cloud.world.denied = {f"iam:{step}" for step in STEPS[1:]}
    assert identity(stage, worker_profile="auto").worker_profile() == name
    (made,) = stage.open(worker_profile="auto").create([stage.request("cpu-1")])
    assert isinstance(made, Instance)


def test_a_launch_waits_until_ec2_knows_the_new_profile(stage: Stage, cloud: AwsCloud) -> None:
    cloud.fault("RunInstances", code="InvalidParameterValue", message=UNSEEN, status=400, times=2)
    head = PoolRequest("head", pool().spec, role="head")
    (made,) = stage.provider.create([stage.request("head-1", wanted=head)])
    assert isinstance(made, Instance), made
    calls = [parameters for _, action, parameters in cloud.world.calls if action == "ec2:RunInstances"]
    assert len(calls) == 3 and len({call["ClientToken"] for call in calls}) == 1
    assert calls[0]["IamInstanceProfile"] == {"Name": stage.provider.identity.name_of("head")}
    assert len(cloud.instances()) == 1


def test_a_profile_of_the_users_that_does_not_exist_is_told_at_once(stage: Stage, cloud: AwsCloud) -> None:
    cloud.fault("RunInstances", code="InvalidParameterValue", message=UNSEEN, status=400, times=None)
    (answer,) = stage.open(worker_profile="typo").create([stage.request("cpu-1")])
    assert isinstance(answer, BadRequest) and cloud.world.actions().count("ec2:RunInstances") == 1


def test_no_role_is_made_for_the_engines_head_where_the_daemon_runs_elsewhere(stage: Stage, cloud: AwsCloud) -> None:
    head = PoolRequest("head", pool().spec, role="head")
    stage.open(head_address="10.0.0.5").create([stage.request("head-1", wanted=head)])
    assert roles(cloud) == []


def test_down_removes_roles_with_what_the_user_attached_and_leaves_those_of_other_clusters(
    stage: Stage, cloud: AwsCloud, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = Stage(tmp_path / "other", cloud)
    kept = identity(other).head_profile()
    identity(stage, worker_profile="auto").worker_profile()
    name = identity(stage).head_profile()
    iam = cloud.client("iam")
    document = render_policy("worker", region="us-east-1", account="123456789012")
    policy = iam.create_policy(PolicyName="data", PolicyDocument=json.dumps(document))
    iam.attach_role_policy(RoleName=name, PolicyArn=policy["Policy"]["Arn"])
    assert ("demo", stage.uid, 0) in stage.provider.find_clusters(), "gc finds a cluster that is only a role"
    assert stage.provider.sweep() == []
    assert profiles(cloud) == roles(cloud) == [kept]
    assert stage.provider.sweep() == []
    other.close()


def test_removal_that_stops_anywhere_is_finished_by_the_next(stage: Stage, cloud: AwsCloud) -> None:
    identity(stage).head_profile()
    for step in ("RemoveRoleFromInstanceProfile", "DeleteInstanceProfile", "DeleteRolePolicy", "DeleteRole"):
        cloud.world.denied = {f"iam:{step}"}
        with pytest.raises(AuthFailed, match=step):
            stage.open().sweep()
    cloud.world.denied = set()
    assert stage.open().sweep() == [] and roles(cloud) == profiles(cloud) == []


def test_who_may_not_look_at_roles_needs_them_only_for_roles_that_we_make(stage: Stage, cloud: AwsCloud) -> None:
    cloud.world.denied = {"iam:ListRoles", "iam:ListInstanceProfiles"}
    assert stage.open(instance_profile="mine").sweep() == []
    assert stage.open(head_address="10.0.0.5").sweep() == []
    assert stage.provider.find_clusters() == []
    with pytest.raises(AuthFailed, match="iam:ListInstanceProfiles"):
        stage.provider.sweep()
