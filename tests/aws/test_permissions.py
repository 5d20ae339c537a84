"""What IAM must allow is what the provider calls: no more, no less."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from clusterctl_providers.aws.policies import NAMES, actions_of, render_policy
from clusterctl_providers.aws.provider import AwsProvider
from clusterctl_runtime.head.handover import OwnMachine

from clusterctl.core.errors import AuthFailed
from clusterctl.core.model import Instance
from tests.aws.stage import BOTH, Stage, pool
from tests.cloud.aws import simulation as aws_simulation
from tests.cloud.aws.cloud import AwsCloud
from tests.support.cluster import wait_until

FACTS = {"region": "us-east-1", "account": "123456789012"}
# Permissions that no call of ours names: tags are set by the calls that make things, roles are passed, and made for the
# account's first spot instance, by RunInstances.
IMPLIED = {
    "ec2:CreateTags", "iam:PassRole", "iam:TagRole", "iam:TagInstanceProfile", "iam:CreateServiceLinkedRole",
}  # fmt: skip
CLIENT = actions_of(render_policy("client", **FACTS)) - IMPLIED
HEAD = actions_of(render_policy("head", **FACTS)) - IMPLIED


@pytest.fixture
def stage(cloud: AwsCloud, tmp_path: Path) -> Iterator[Stage]:
    gang = pool("gang", instances=["g6.8xlarge"], one_zone=True)
    assert aws_simulation  # IAM says what one may do
    place = Stage(tmp_path, cloud, [pool(market=BOTH), gang])
    yield place
    place.close()


def key_of(directory: Path) -> dict[str, str]:
    path = directory / "id_ed25519"
    if not path.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return {"key": str(path)}


def _state(provider: AwsProvider, instance_id: str) -> str:
    return {i.id: i.state for scope in provider.list() for i in scope.instances}.get(instance_id, "")


def live(stage: Stage, provider: AwsProvider) -> None:
    """What a head does: offers, launches of every kind, lists, stops, starts and ends."""
    made = provider.create([stage.request("cpu-1"), stage.request("gang-1", wanted=stage.pools[1])])
    assert all(isinstance(result, Instance) for result in made), made
    assert provider.offers(pool(reservation="cr-0123456789abcdef0"))
    ids = [result.id for result in made if isinstance(result, Instance)]
    provider.console_log(ids[0])
    gang = ids[1]  # the other one is a spot instance
    wait_until(lambda: _state(provider, gang) == "running", what="the gang running")
    provider.stop([gang])
    wait_until(lambda: _state(provider, gang) == "stopped", what="it is stopped")
    assert provider.start([gang]) == [None]
    assert provider.list()[0].complete
    provider.terminate(ids)
    wait_until(lambda: not provider.list()[0].instances, what="an empty list")


def live_with_a_head(stage: Stage, provider: AwsProvider) -> None:
    """What the client does beside, where the head runs on an instance: a disk for it."""
    (made,) = provider.create([stage.request("cpu-8")])
    assert isinstance(made, Instance)
    moved = stage.open(ssh_from=["192.0.2.8"])
    moved.renew_access()
    disk = provider.make_head_disk(made.zone, 1 << 30, "once")
    assert provider.make_head_disk(made.zone, 1 << 30, "once").id == disk.id == getattr(provider.head_disk(), "id", "")
    wait_until(lambda: provider.attach_head_disk(disk, made.id), what="the disk attached")
    assert provider.whereabouts(made.id).place.private == made.address
    assert provider.address_holder(provider.whereabouts(made.id).place) is not None
    provider.terminate([made.id])
    wait_until(lambda: not provider.list()[0].instances, what="an empty list")
    wait_until(lambda: not provider.sweep(), what="nothing left")


def clean_up(stage: Stage, provider: AwsProvider) -> None:
    """What `down` does on the client when the last instance has gone."""
    volume = stage.cloud.client().create_volume(
        AvailabilityZone="us-east-1a", Size=1,
        TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": "clusterctl-uid", "Value": stage.uid}]}],
    )  # fmt: skip
    assert volume["VolumeId"] in stage.cloud.leftovers()
    before = len(stage.cloud.world.calls)
    assert provider.sweep() == [] and stage.cloud.leftovers() == []
    assert "ec2:DeleteVolume" in stage.cloud.world.actions(before)


def live_with_roles(stage: Stage, provider: AwsProvider) -> None:
    """What the client does beside: it makes the roles, and removes them with what the user attached to one."""
    name = provider.identity.head_profile()
    iam = stage.cloud.client("iam")
    document = json.dumps(render_policy("worker", **FACTS))
    policy = iam.create_policy(PolicyName="data", PolicyDocument=document)["Policy"]["Arn"]
    iam.attach_role_policy(RoleName=name, PolicyArn=policy)
    assert provider.sweep() == []


def test_the_actions_called_are_the_actions_that_the_clients_policy_allows(stage: Stage, tmp_path: Path) -> None:
    provider = stage.open(key_of(tmp_path), ssh_from=["192.0.2.7"])
    live(stage, provider)
    live_with_a_head(stage, provider)
    clean_up(stage, provider)
    live_with_roles(stage, provider)
    provider.find_clusters()
    provider.doctor()
    ours = {"iam:CreatePolicy", "iam:AttachRolePolicy"}  # of the tests themselves
    assert set(stage.cloud.world.actions()) - ours == CLIENT


def test_a_head_lives_with_its_smaller_policy(stage: Stage, tmp_path: Path) -> None:
    client = stage.open(key_of(tmp_path), worker_profile="auto")
    client.create([stage.request("cpu-9")])  # `up` made the security group, the key pair and the workers' role
    client.identity.worker_profile()
    (own,) = client.create([stage.request("head-1")])
    assert isinstance(own, Instance), own
    stage.cloud.world.allowed = HEAD
    head = stage.open(key_of(tmp_path), worker_profile="auto")
    before = len(stage.cloud.world.calls)
    assert head.offers(stage.pools[0])
    head.terminate([instance.id for instance in head.list()[0].instances if instance.id != own.id])
    OwnMachine.around(head, own.id).end_itself()  # where its cluster ends itself
    live(stage, head)
    assert set(stage.cloud.world.actions(before)) == HEAD < CLIENT


@pytest.mark.parametrize("name", ["client", "head"])
def test_whatever_changes_something_is_bound_to_the_uid(name: str) -> None:
    policy = render_policy(name, uid="5f3a", head_role="the-head", worker_role="the-worker", **FACTS)
    for statement in policy["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not any("*" in action for action in actions)
        ends = {
            "ec2:TerminateInstances",
            "ec2:DeleteSecurityGroup",
            "ec2:DeleteVolume",
            "ec2:StopInstances",
            "ec2:StartInstances",
            "ec2:AuthorizeSecurityGroupIngress",
            "ec2:RevokeSecurityGroupIngress",
        }
        if ends & set(actions):
            assert statement["Condition"] == {"StringLike": {"aws:ResourceTag/clusterctl-uid": "5f3a"}}
        if "iam:PassRole" in actions:
            roles = [resource.rpartition("/")[2] for resource in statement["Resource"]]
            assert roles == (["the-worker", "the-head"] if name == "client" else ["the-worker"])
        if "iam:CreateRole" in actions:
            assert all(resource.endswith("/clusterctl/us-east-1/5f3a/*") for resource in statement["Resource"])
        if actions == ["ec2:CreateTags"]:
            assert statement["Condition"]["StringLike"] == {"aws:RequestTag/clusterctl-uid": "5f3a"}
            assert "RunInstances" in statement["Condition"]["StringEquals"]["ec2:CreateAction"]


def test_a_value_cannot_add_a_statement() -> None:
    evil = '*"}, {"Effect": "Allow", "Action": "*", "Resource": "*'
    policy = render_policy("head", uid=evil, **FACTS)
    assert actions_of(policy) - IMPLIED == HEAD
    assert policy["Statement"][2]["Condition"]["StringLike"]["aws:RequestTag/clusterctl-uid"] == evil


def test_a_missing_permission_is_a_sentence_that_names_it(stage: Stage) -> None:
    stage.cloud.world.denied = {"ec2:RunInstances"}
    (answer,) = stage.provider.create([stage.request("cpu-1")])
    assert isinstance(answer, AuthFailed) and "ec2:RunInstances" in str(answer)


def test_the_policies_are_printed_for_use() -> None:
    command = [
        sys.executable,
        "-m",
        "clusterctl_providers.aws.policies",
        "head",
        "--region",
        "eu-west-1",
        "--account",
        "1" * 12,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "arn:aws:ec2:eu-west-1:111111111111:instance/*" in done.stdout


def test_the_command_names_what_is_missing(stage: Stage, tmp_path: Path) -> None:
    settings = f"region: us-east-1, endpoint_url: '{stage.cloud.url}', head_address: 127.0.0.1"
    spec = f"cluster: demo\nprovider: {{aws: {{{settings}}}}}\n"
    home = tmp_path / "home" / "clusters" / "demo"
    (home / "head").mkdir(parents=True, mode=0o700)
    (home / "cluster.json").write_text(
        json.dumps({"name": "demo", "uid": stage.uid, "provider": "aws", "created": 0, "spec_path": "x"})
    )
    (home / "head" / "config.json").write_text(json.dumps({"spec": yaml.safe_load(spec)}))
    stage.cloud.world.denied = {"ec2:RunInstances"}
    env = {**os.environ, "CLUSTERCTL_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-m", "clusterctl", "doctor", "--json"], env=env, capture_output=True, text=True
    )
    missing = [check for check in json.loads(done.stdout)["checks"] if check["name"] == "aws" and not check["ok"]]
    assert [check["found"] for check in missing] == ["no permission ec2:RunInstances"], done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_the_policies_are_no_larger_than_iam_takes(name: str) -> None:
    """White space is not counted. A managed policy has 6,144 characters at most, a role's own ones 10,240."""
    long = {"region": "ap-northeast-3", "account": "1" * 12, "partition": "aws-us-gov", "uid": "5" * 36}
    policy = render_policy(
        name, boundary=f"arn:aws-us-gov:iam::{'1' * 12}:policy/{'b' * 128}", parameters=["/p"], **long
    )
    assert len(json.dumps(policy, separators=(",", ":"))) <= 6144
    assert {statement["Effect"] for statement in policy["Statement"]} <= {"Allow", "Deny"}
    sids = [statement["Sid"] for statement in policy["Statement"] if "Sid" in statement]
    assert len(set(sids)) == len(sids) and all(sid.isalnum() for sid in sids)


def test_in_china_ec2_has_another_name() -> None:
    trust = render_policy("trust", region="cn-north-1", account="1" * 12, partition="aws-cn")
    assert trust["Statement"][0]["Principal"] == {"Service": "ec2.amazonaws.com.cn"}
    head = render_policy("head", region="cn-north-1", account="1" * 12, partition="aws-cn")
    (passing,) = [s for s in head["Statement"] if s["Action"] == "iam:PassRole"]
    assert passing["Condition"] == {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com.cn"}}
